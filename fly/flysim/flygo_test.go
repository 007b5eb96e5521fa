package flysim_test

import (
	"net/http/httptest"
	"testing"
	"time"

	flygo "github.com/superfly/fly-go"
	"github.com/superfly/fly-go/flaps"
	"github.com/superfly/fly-go/tokens"

	"github.com/microbima/release/fly/flysim"
)

// TestFlyGo: flysim implements every call of Fly's own client, which flyctl
// uses.
func TestFlyGo(t *testing.T) {
	sim := new(flysim.Sim)
	t.Cleanup(sim.Close)
	srv := httptest.NewServer(sim)
	t.Cleanup(srv.Close)
	t.Setenv("FLY_FLAPS_BASE_URL", srv.URL)
	ctx := t.Context()
	c, err := flaps.NewWithOptions(ctx, flaps.NewClientOpts{Tokens: tokens.Parse("x")})
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	check("client", err)
	app, err := c.CreateApp(ctx, flaps.CreateAppRequest{Name: "shop", Org: "acme"})
	check("create app", err)
	if app.Organization.Slug != "acme" || app.Deployed() {
		t.Errorf("app %+v", app)
	}
	_, err = c.AssignIP(ctx, "shop", flaps.AssignIPRequest{Type: "shared_v4"})
	check("assign address", err)
	vol, err := c.CreateVolume(ctx, "shop", flygo.CreateVolumeRequest{Name: "data", Region: "fra"})
	check("create volume", err)
	value := "1"
	secrets, err := c.UpdateAppSecrets(ctx, "shop", map[string]*string{"KEY": &value})
	check("set secret", err)
	config := &flygo.MachineConfig{Image: "registry.fly.io/shop:1", Mounts: []flygo.MachineMount{{Volume: vol.ID, Path: "/data"}},
		Metadata: map[string]string{"fly_platform_version": "v2", "fly_process_group": "app"}}
	m, err := c.Launch(ctx, "shop", flygo.LaunchMachineInput{Config: config, Region: "fra", LeaseTTL: 60, MinSecretsVersion: &secrets.Version})
	check("launch", err)
	check("wait", c.Wait(ctx, "shop", m.ID, flaps.WithWaitStates("started"), flaps.WithWaitVersion(m.InstanceID)))
	fresh, err := c.Get(ctx, "shop", m.ID)
	check("get", err)
	_, err = fresh.MostRecentStartTimeAfterLaunch() // used by flyctl's smoke check
	check("uptime", err)
	ttl := 13
	_, err = c.RefreshLease(ctx, "shop", m.ID, &ttl, m.LeaseNonce)
	check("refresh lease", err)
	config.Image = "registry.fly.io/shop:2"
	_, err = c.Update(ctx, "shop", flygo.LaunchMachineInput{ID: m.ID, Config: config, Region: "fra"}, m.LeaseNonce)
	check("update", err)
	check("stop", c.Stop(ctx, "shop", flygo.StopMachineInput{ID: m.ID, Signal: "SIGTERM", Timeout: flygo.Duration{Duration: time.Second}}, m.LeaseNonce))
	check("wait", c.Wait(ctx, "shop", m.ID, flaps.WithWaitStates("stopped")))
	_, err = c.Start(ctx, "shop", m.ID, m.LeaseNonce)
	check("start", err)
	check("restart", c.Restart(ctx, "shop", flygo.RestartMachineInput{ID: m.ID}, m.LeaseNonce))
	check("cordon", c.Cordon(ctx, "shop", m.ID, m.LeaseNonce))
	check("metadata", c.SetMetadata(ctx, "shop", m.ID, "colour", "blue"))
	check("release lease", c.ReleaseLease(ctx, "shop", m.ID, m.LeaseNonce))
	all, _, err := c.ListFlyAppsMachines(ctx, "shop")
	check("list", err)
	if len(all) != 1 || all[0].Config.Metadata["colour"] != "blue" || all[0].ImageRef.Tag != "2" || all[0].State != "started" {
		t.Errorf("machines %+v", all)
	}
	ips, err := c.GetIPAssignments(ctx, "shop")
	check("addresses", err)
	vols, err := c.GetVolumes(ctx, "shop")
	check("volumes", err)
	regions, err := c.GetRegions(ctx)
	check("regions", err)
	if len(ips.IPs) != 1 || len(vols) != 1 || !vols[0].IsAttached() || len(regions.Regions) == 0 || regions.Regions[0].GeoRegion.String() != "Europe" {
		t.Errorf("addresses %+v, volumes %+v, regions %+v", ips, vols, regions)
	}
	check("destroy", c.Destroy(ctx, "shop", flygo.RemoveMachineInput{ID: m.ID, Kill: true}, ""))
	check("wait", c.Wait(ctx, "shop", m.ID, flaps.WithWaitStates("destroyed")))

	flygo.SetBaseURL(srv.URL)
	t.Cleanup(func() { flygo.SetBaseURL("https://api.fly.io") })
	g := flygo.NewClientFromOptions(flygo.ClientOptions{Tokens: tokens.Parse("x"), BaseURL: srv.URL})
	full, err := g.GetApp(ctx, "shop")
	check("GraphQL app", err)
	if full.Name != "shop" || full.AppURL != "https://shop.fly.dev" || full.Organization.Slug != "acme" {
		t.Errorf("app %+v", full)
	}
	if _, err := g.GetApp(ctx, "none"); err == nil {
		t.Error("an app that does not exist was found")
	}
	releases, err := g.GetAppReleasesMachines(ctx, "shop", "", 25)
	check("GraphQL releases", err)
	if len(releases) != 0 {
		t.Errorf("releases %+v", releases)
	}
}

package activities_test

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// A failed read is repeated without a new attempt of the activity.
func TestActivities_OneReadFails(t *testing.T) {
	const app = "shop-staging-api"
	preflight := func(t *testing.T, a *activities.Activities) error {
		_, err := runActivity[any](t, a, a.Preflight, activities.PreflightInput{
			Environments: []string{"staging"}, Apps: []string{"api"}, Project: release.Project{
				Apps:         []release.App{{Name: "api", Go: "./api", Secrets: []string{"ONE"}}},
				Environments: []release.Environment{{Name: "staging", Targets: []release.TargetFile{newTargetFile("api", app)}}},
			},
		})
		return err
	}
	open := func(t *testing.T, a *activities.Activities) error {
		_, err := runActivity[activities.Opened](t, a, a.OpenRollout, activities.OpenInput{Targets: []release.TargetPlan{{
			Target: release.Target{App: "api", Environment: "staging"}, FlyApp: app, Changed: true, Addresses: []string{"v6"},
		}}})
		return err
	}
	closing := func(t *testing.T, a *activities.Activities) error {
		_, err := runActivity[any](t, a, a.CloseRollout, activities.CloseInput{
			Release: "release/shop/1", Status: "complete", Commands: []string{app}, Begun: map[string]release.Image{app: "registry.fly.io/x@sha256:1"},
		})
		return err
	}
	for name, test := range map[string]struct {
		route string
		do    func(*testing.T, *activities.Activities) error
	}{
		"preflight reads the app":             {"POST /graphql", preflight},
		"preflight reads the secrets":         {"GET /v1/apps/{app}/secrets", preflight},
		"opening reads the secrets' version":  {"POST /v1/apps/{app}/secrets", open},
		"opening reads the addresses":         {"GET /v1/apps/{app}/ip_assignments", open},
		"closing reads the machines":          {"GET /v1/apps/{app}/machines", closing},
		"closing reads Fly's releases of app": {"GET /api/v1/apps/{app}/releases", closing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := new(flysim.Sim)
			t.Cleanup(sim.Close)
			sim.SetSecrets(app, map[string]string{"ONE": "x"})
			sim.Put(app, fly.Machine{Name: "m", Region: "ams", Config: []byte(`{"image":"registry.fly.io/x@sha256:1"}`)})
			sim.Inject(flysim.Fault{Route: test.route, Times: 1, Status: http.StatusServiceUnavailable})
			at, failed := newFlyClient(sim, ""), atomic.Int32{}
			at.HTTP = &http.Client{Transport: observeResponses(func(resp *http.Response) {
				if resp.StatusCode == http.StatusServiceUnavailable {
					failed.Add(1)
				}
			}, sim.Transport())}
			if err := test.do(t, &activities.Activities{Fly: at}); err != nil {
				t.Error(err)
			}
			if failed.Load() != 1 {
				t.Errorf("%d requests failed, want 1", failed.Load())
			}
		})
	}
}

// observeResponses returns a transport that passes each response to observe.
func observeResponses(observe func(*http.Response), next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err == nil {
			observe(resp)
		}
		return resp, err
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

package activities_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// A fleet is a number of Fly apps with machines, each with an incompressible file of
// that size.
type fleet struct{ apps, machines, file int }

// planRestore plans a rollback of the fleet, in which every machine had another image
// and another file.
func (f fleet) planRestore(t *testing.T) (activities.Restoration, error) {
	t.Helper()
	sim := &flysim.Sim{}
	defer sim.Close()
	var in activities.RestoreInput
	in.Environment = "production"
	for i := range f.apps {
		app := fmt.Sprint("app", i)
		sim.CreateApp(app, "")
		was := release.State{Target: release.Target{App: app, Environment: "production"}, FlyApp: app}
		now, before := f.newConfig(1), f.newConfig(0)
		for j := range f.machines {
			id := fmt.Sprintf("%014x", i*f.machines+j+1)
			sim.Put(app, fly.Machine{ID: id, Name: "m" + id, Region: "ams", Config: now})
			was.Machines = append(was.Machines, release.Machine{
				ID: id, Name: "m" + id, Group: "app", Region: "ams", State: "started", Image: imageVersion(0), Config: machineconfig.Read(before),
			})
		}
		in.Baselines = append(in.Baselines, release.Baseline{State: was, MaxUnavailable: 1})
	}
	a := &activities.Activities{Fly: &fly.Client{
		FlapsURL: "http://fly", APIURL: "http://fly", UIEXURL: "http://fly", HTTP: &http.Client{Transport: sim.Transport()}, Unlimited: true,
	}}
	return runActivity[activities.Restoration](t, a, a.PlanRestore, in)
}

func imageVersion(version int) release.Image {
	return release.Image(fmt.Sprintf("registry.fly.io/app@sha256:%064d", version))
}

func (f fleet) newConfig(version int) json.RawMessage {
	file := make([]byte, f.file)
	_, _ = rand.Read(file)
	return fmt.Appendf(nil, `{"image":%q,"files":[{"guest_path":"/f","raw_value":%q}],"metadata":{"fly_platform_version":"v2","fly_process_group":"app"}}`,
		imageVersion(version), base64.StdEncoding.EncodeToString(file))
}

// A rollback that exceeds the limits of Temporal is refused, with the limit and the
// largest parts.
func TestPlanRestore_Sizes(t *testing.T) {
	for name, test := range map[string]struct {
		fleet   fleet
		refused []string // parts of the error; none: it is planned
	}{
		"18 machines of 9 apps with files of 50 kB, all different": {fleet{9, 2, 50_000}, nil},
		"100 machines of one app with a file of 20 kB":             {fleet{1, 100, 20_000}, nil},
		"400 machines with a file of 20 kB":                        {fleet{1, 400, 20_000}, []string{"when everything in it is written out", "the limit is 16.0 MB"}},
		"30 apps with files of 50 kB, all different":               {fleet{30, 2, 50_000}, []string{"production is too large", "the limit is 1.0 MB", "app0/production (65 kB a machine)", "--app"}},
		"4,000 machines":                                {fleet{1, 4000, 1}, []string{"4000 steps", "its rollback 4000", "the limit is 7500"}},
		"900 machines with a file of 20 kB":             {fleet{1, 900, 20_000}, []string{"the answer is longer than 16 MB", "split the app"}},
		"800 machines of two apps with a file of 20 kB": {fleet{2, 400, 20_000}, []string{"the limit is 30.0 MB"}},
	} {
		t.Run(name, func(t *testing.T) {
			back, err := test.fleet.planRestore(t)
			var refusal *temporal.ApplicationError
			switch {
			case len(test.refused) == 0 && err != nil:
				t.Fatal(err)
			case len(test.refused) == 0:
				if got := back.Plan.WithContentHash().ContentHash; got != back.Plan.ContentHash || got == "" {
					t.Errorf("the plan was changed after its content was hashed: %q is not %q", back.Plan.ContentHash, got)
				}
			case !errors.As(err, &refusal) || refusal.Type() != release.KindTooLarge || !refusal.NonRetryable():
				t.Fatalf("%v, want %s", err, release.KindTooLarge)
			}
			for _, part := range test.refused {
				if !strings.Contains(refusal.Message(), part) {
					t.Errorf("%q does not have %q", refusal.Message(), part)
				}
			}
		})
	}
}

// Targets are read concurrently: 200 take seconds.
func TestPreflight_ManyTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := &flysim.Sim{Latency: flysim.Latency{API: 100 * time.Millisecond}}
		defer sim.Close()
		a := &activities.Activities{Fly: &fly.Client{
			FlapsURL: "http://fly", APIURL: "http://fly", UIEXURL: "http://fly", HTTP: &http.Client{Transport: sim.Transport()},
		}}
		in := activities.PreflightInput{Environments: []string{"staging"}}
		env := release.Environment{Name: "staging"}
		var targets []activities.TargetRef
		for i := range 200 {
			app := fmt.Sprintf("app%03d", i)
			target := release.Target{App: app, Environment: "staging"}
			if i != 150 {
				sim.CreateApp(app, "")
			}
			targets = append(targets, activities.TargetRef{Target: target, FlyApp: app})
			in.Apps = append(in.Apps, app)
			in.Project.Apps = append(in.Project.Apps, release.App{Name: app, Secrets: []string{"KEY"}})
			env.Targets = append(env.Targets, release.TargetFile{Target: target, FlyApp: app})
		}
		in.Project.Environments = []release.Environment{env}
		begun := time.Now()
		_, err := runActivity[struct{}](t, a, a.Preflight, in)
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("preflight of 200 targets took %s", took)
		}
		var refusal *temporal.ApplicationError
		if !errors.As(err, &refusal) {
			t.Fatal(err)
		}
		lines := strings.Split(refusal.Message(), "\n")
		if len(lines) != 200 || !strings.Contains(lines[150], "there is no Fly app app150") || !strings.Contains(lines[151], "app151/staging: secret KEY is not set") {
			t.Errorf("the error has %d lines: %.600s", len(lines), refusal.Message())
		}
		begun = time.Now()
		sim.CreateApp("app150", "")
		if _, err := runActivity[[]release.State](t, a, a.Observe, activities.ObserveInput{Targets: targets}); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("observing 200 targets took %s", took)
		}
	})
}

package config

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/microbima/release/release"
)

// Loading and planning take less than a second for any graph of needs, even if its
// number of paths is exponential.
func TestNeeds_HundredApps(t *testing.T) {
	const apps = 100
	for name, test := range map[string]struct {
		needs func(i int) []int
		level int // of the last app
	}{
		"all before": {func(i int) (all []int) {
			for j := range i {
				all = append(all, j)
			}
			return all
		}, apps - 1},
		"a chain": {func(i int) []int { return []int{i - 1}[:min(i, 1)] }, apps - 1},
		"a star":  {func(i int) []int { return []int{0}[:min(i, 1)] }, 1},
		"a ladder": {func(i int) []int {
			if i < 2 {
				return nil
			}
			return []int{i/2*2 - 2, i/2*2 - 1}
		}, apps/2 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			files := fstest.MapFS{}
			toml := "project = \"shop\"\n[environments.staging]\n"
			for i := range apps {
				var needs []string
				for _, j := range test.needs(i) {
					needs = append(needs, fmt.Sprintf("%q", fmt.Sprintf("app%03d", j)))
				}
				toml += fmt.Sprintf("[apps.app%03d]\nneeds = [%s]\n", i, strings.Join(needs, ", "))
				files[fmt.Sprintf("infra/fly/app%03d/staging/fly.toml", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "app = \"shop-%d\"\nprimary_region = \"fra\"\n", i)}
				files[fmt.Sprintf("infra/fly/app%03d/Dockerfile", i)] = &fstest.MapFile{Data: []byte("FROM scratch")}
			}
			files[File] = &fstest.MapFile{Data: []byte(toml)}
			begun := time.Now()
			p, _, err := Load(files)
			if err != nil {
				t.Fatal(err)
			}
			loaded := time.Since(begun)
			var specs []release.Spec
			var states []release.State
			last := 0
			for _, target := range p.Environments[0].Targets {
				state := release.State{Target: target.Target, FlyApp: target.FlyApp}
				spec, err := Spec(p, target, v1, state)
				if err != nil {
					t.Fatal(err)
				}
				if target.Target.App == fmt.Sprintf("app%03d", apps-1) {
					last = spec.Level
				}
				specs = append(specs, spec)
				states = append(states, state)
			}
			plan, err := release.NewPlan("staging", "", specs, states)
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(begun)
			t.Logf("%d apps, %s: loaded in %s, planned in %s", apps, name, loaded.Round(time.Millisecond), took.Round(time.Millisecond))
			if last != test.level || len(plan.Targets) != apps {
				t.Errorf("the last app has level %d and the plan %d targets, want %d and %d", last, len(plan.Targets), test.level, apps)
			}
			if took > 20*time.Second {
				t.Errorf("it took %s, want less than a second", took)
			}
		})
	}
}

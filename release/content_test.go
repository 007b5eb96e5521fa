package release_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// The hash of a plan covers every config as a whole, but not the layout of its JSON.
func TestSealed_CoversEveryConfig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fleets().Draw(t, "fleet")
		plan := f.plan(t, f.states)
		steps := plan.Steps()
		if len(steps) == 0 {
			t.Skip("nothing to do")
		}
		hash := plan.Seal("run").Hash
		if known := plan.WithContentHash().Seal("run").Hash; known != hash {
			t.Fatalf("sealed with WithContent it has the hash %s, without it %s", known, hash)
		}
		nth := rapid.IntRange(0, len(steps)-1).Draw(t, "step")
		part := rapid.SampledFrom([]string{"before", "after", "machine check", "definition", "secret"}).Draw(t, "part")
		change := func(doc json.RawMessage) release.Plan {
			changed := copyOf(t, plan)
			if part == "definition" {
				changed.Targets[0].Definition = doc
				return changed
			}
			if part == "secret" {
				changed.Targets[0].Notes = append(changed.Targets[0].Notes, string(doc))
				return changed
			}
			i := 0
			for w := range changed.Waves {
				for l := range changed.Waves[w].Lanes {
					for s := range changed.Waves[w].Lanes[l].Steps {
						step := &changed.Waves[w].Lanes[l].Steps[s]
						switch {
						case i != nth:
						case part == "before":
							step.Before = machineconfig.Read(doc)
						case part == "after":
							step.After = machineconfig.Read(doc)
						case part == "machine check":
							step.MachineChecks = []json.RawMessage{doc}
						}
						i++
					}
				}
			}
			return changed
		}
		long := fmt.Sprintf(`{"image":"r/a@sha256:7","env":{"LONG":"%0200d"}}`, 1)
		one := change(json.RawMessage(long)).Seal("run").Hash
		other := change(json.RawMessage(long[:len(long)-3] + `2"}}`)).Seal("run").Hash
		if one == hash || one == other {
			t.Errorf("plans that differ in the last character of a config (%s) have the same hash", part)
		}
		if part == "secret" {
			return
		}
		spaced := change(json.RawMessage(`{ "env": {"LONG": "` + fmt.Sprintf("%0200d", 1) + `"}, "image": "r/a@sha256:7" }`)).Seal("run").Hash
		if spaced != one {
			t.Errorf("the same config (%s) in another layout has another hash", part)
		}
	})
}

// copyOf returns a deep copy of a plan.
func copyOf(t *rapid.T, plan release.Plan) (copied release.Plan) {
	doc, err := json.Marshal(plan)
	if err == nil {
		err = json.Unmarshal(doc, &copied)
	}
	if err != nil {
		t.Fatal(err)
	}
	return copied
}

// The title of a wave lists each kind of work once, for any number of targets.
func TestNewPlan_TitlesOfManyTargets(t *testing.T) {
	var specs []release.Spec
	var states []release.State
	for i := range 100 {
		target := release.Target{App: fmt.Sprintf("app%02d", i), Environment: "production"}
		spec := release.Spec{Target: target, FlyApp: target.App, Image: images[1], Strategy: release.Rolling}
		group := release.GroupSpec{Name: "app", Machines: map[string]release.Config{}}
		state := release.State{Target: target, FlyApp: target.App}
		if i%2 == 0 {
			group.New = []release.NewMachine{{Region: "ams", Config: config(target.App, "app", 1)}}
		} else {
			state.Machines = []release.Machine{{ID: "m", Name: "m", Group: "app", State: "started", Image: images[0], Config: config(target.App, "app", 0)}}
			group.Machines["m"] = config(target.App, "app", 1)
		}
		spec.Groups = append(spec.Groups, group)
		specs, states = append(specs, spec), append(states, state)
	}
	plan, err := release.NewPlan("production", "", specs, states)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Waves) != 1 || plan.Waves[0].Title != "create, update" {
		t.Errorf("%d waves; the first is called %q, want create, update", len(plan.Waves), plan.Waves[0].Title)
	}
}

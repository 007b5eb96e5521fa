package release

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// A Plan is the ordered waves from the state of every target of an environment to its
// spec (NewPlan) or to its baseline (Restore). Approvals name one plan, and rollouts
// execute nothing else.
type Plan struct {
	Environment string       `json:"environment"`
	Revision    string       `json:"revision,omitempty"`     // commit to release; "" for a restore
	Lineage     Lineage      `json:"lineage,omitzero"`       // relation to the running revisions
	Skipped     []Skipped    `json:"skipped,omitempty"`      // environments of the path that were left out
	Run         string       `json:"run,omitempty"`          // run ID of the workflow for which it was sealed
	Hash        string       `json:"hash,omitempty"`         // 64 hex digits, computed from Run, Lineage, Skipped and ContentHash
	ContentHash string       `json:"content_hash,omitempty"` // 64 hex digits, computed from all other fields: see WithContentHash
	Targets     []TargetPlan `json:"targets"`                // every target of the environment, changed or not
	Waves       []Wave       `json:"waves"`
	// FollowsRun is the run ID of the rollout without a report that ran before the plan
	// was made: the plan treats what that rollout left. "" if there was none.
	FollowsRun string `json:"follows_run,omitempty"`
}

// A TargetPlan is the part of a plan about one target.
type TargetPlan struct {
	Target          Target            `json:"target"`
	FlyApp          string            `json:"fly_app"`
	URL             string            `json:"url,omitempty"`
	Level           int               `json:"level"`
	Strategy        Strategy          `json:"strategy,omitempty"`
	MaxUnavailable  float64           `json:"max_unavailable"`
	Wait            Duration          `json:"wait"`
	Probe           *Probe            `json:"probe,omitempty"`
	Image           Image             `json:"image,omitempty"`    // image to release
	MachineVersions map[string]string `json:"machine_versions"`   // machine ID → version that the plan expects
	Cordoned        []string          `json:"cordoned,omitempty"` // IDs of the machines that were cordoned
	Changed         bool              `json:"changed"`
	// Secrets are the secrets that the changed machines will have.
	Secrets []Secret `json:"secrets,omitempty"`
	// Addresses are the kinds of IP address to allocate, if the Fly app has none.
	Addresses []string `json:"addresses,omitempty"`
	// Unchecked is true if neither fly.toml nor release.toml has a check or probe.
	// RefuseUnchecked is true if release.toml forbids to release such a target.
	Unchecked       bool `json:"unchecked,omitempty"`
	RefuseUnchecked bool `json:"refuse_unchecked,omitempty"`
	// NewGroups are groups that get their first machines while others have some already.
	NewGroups []string `json:"new_groups,omitempty"`
	// Notes are shown before the approval, Warnings also after the rollout.
	Notes      []string        `json:"notes,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty"` // fly.toml in Fly's form, for the Fly release
}

// IsEmpty reports whether p has no waves.
func (p Plan) IsEmpty() bool { return len(p.Waves) == 0 }

// Steps returns all steps in order.
func (p Plan) Steps() []Step {
	n := 0
	for _, w := range p.Waves {
		for _, l := range w.Lanes {
			n += len(l.Steps)
		}
	}
	steps := make([]Step, 0, n)
	for _, w := range p.Waves {
		for _, l := range w.Lanes {
			steps = append(steps, l.Steps...)
		}
	}
	return steps
}

// wavesByReversibility returns p with only the waves whose field Irreversible has that
// value.
func (p Plan) wavesByReversibility(last bool) Plan {
	q := p
	q.Waves = nil
	for _, w := range p.Waves {
		if w.Irreversible == last {
			q.Waves = append(q.Waves, w)
		}
	}
	return q
}

// ReversiblePart returns the part of p that can be rolled back.
func (p Plan) ReversiblePart() Plan { return p.wavesByReversibility(false) }

// Through returns p with its waves up to and including wave i.
func (p Plan) Through(i int) Plan {
	q := p
	q.Waves = p.Waves[:i+1]
	return q
}

// IrreversiblePart returns the part of p that cannot be rolled back.
func (p Plan) IrreversiblePart() Plan { return p.wavesByReversibility(true) }

// WithoutConfigs returns p without machine configs. It is small enough for reports.
func (p Plan) WithoutConfigs() Plan {
	q := p.editSteps(func(s *Step) { s.Before, s.After, s.MachineChecks = Config{}, Config{}, nil })
	q.Targets = slices.Clone(p.Targets)
	for i := range q.Targets {
		q.Targets[i].Definition = nil
	}
	return q
}

// editSteps returns a copy of p in which edit was applied to every step.
func (p Plan) editSteps(edit func(*Step)) Plan {
	q := p
	q.Waves = slices.Clone(p.Waves)
	for i := range q.Waves {
		q.Waves[i].Lanes = slices.Clone(q.Waves[i].Lanes)
		for j, lane := range q.Waves[i].Lanes {
			steps := slices.Clone(lane.Steps)
			for k := range steps {
				edit(&steps[k])
			}
			q.Waves[i].Lanes[j].Steps = steps
		}
	}
	return q
}

// CheckStale returns a *StaleError if p does not match the current states.
// Machines that were changed, added, removed, cordoned or uncordoned make a plan stale;
// machines that were only started or stopped do not.
func (p Plan) CheckStale(now []State) error {
	for _, t := range p.Targets {
		i := slices.IndexFunc(now, func(s State) bool { return s.Target == t.Target })
		if i < 0 {
			return newStaleError("the state of %s was not read", t.Target)
		}
		for _, m := range now[i].Machines {
			switch version, known := t.MachineVersions[m.ID]; {
			case !known:
				return newStaleError("%s has a machine that is not in the plan: %s (%s)", t.Target, m.ID, m.Name)
			case version != m.Version:
				return newStaleError("machine %s of %s was changed since the plan was made: it is at version %s, the plan expects %s", m.ID, t.Target, m.Version, version)
			case m.Host == "" && m.Cordoned != slices.Contains(t.Cordoned, m.ID):
				return newStaleError("machine %s of %s was cordoned or uncordoned since the plan was made: cordoned is %t now", m.ID, t.Target, m.Cordoned)
			}
		}
		if len(now[i].Machines) < len(t.MachineVersions) {
			return newStaleError("%s has %d machines, the plan expects %d", t.Target, len(now[i].Machines), len(t.MachineVersions))
		}
		if err := checkSecretsUnchanged(t.Secrets, now[i].Secrets); t.Changed && err != nil {
			return newStaleError("%s: %v since the plan was made", t.Target, err)
		}
	}
	return nil
}

// NewPlan returns the ordered steps that bring every target from its state to its
// spec. It is pure: equal arguments result in equal plans, byte for byte. Apps that
// others need come first. A target without changes has no steps. It returns an error
// if a spec has no state, an unknown strategy, or no config for a machine of its group.
func NewPlan(environment, revision string, specs []Spec, states []State) (Plan, error) {
	plan := Plan{Environment: environment, Revision: revision, Targets: []TargetPlan{}, Lineage: Lineage{Running: RunningRevisions(states)}}
	specs = slices.SortedFunc(slices.Values(specs), func(a, b Spec) int {
		return cmp.Or(cmp.Compare(a.Level, b.Level), cmp.Compare(a.Target.App, b.Target.App))
	})
	var last []Wave
	for level, first := 0, 0; first < len(specs); level++ {
		var waves, lasts []Wave
		for ; first < len(specs) && specs[first].Level <= level; first++ {
			spec := specs[first]
			i := slices.IndexFunc(states, func(s State) bool { return s.Target == spec.Target })
			if i < 0 {
				return Plan{}, fmt.Errorf("plan %s: the state of %s was not read", environment, spec.Target)
			}
			w, err := spec.planWaves(states[i])
			if err != nil {
				return Plan{}, fmt.Errorf("plan %s: %w", environment, err)
			}
			plan.Targets = append(plan.Targets, newTargetPlan(spec, states[i], w))
			waves, lasts = mergeWaves(waves, Plan{Waves: w}.ReversiblePart().Waves), mergeWaves(lasts, Plan{Waves: w}.IrreversiblePart().Waves)
		}
		plan.Waves = append(plan.Waves, waves...)
		last = mergeWaves(last, lasts)
	}
	plan.Waves = append(plan.Waves, last...)
	return plan, nil
}

func newTargetPlan(spec Spec, state State, waves []Wave) TargetPlan {
	t := TargetPlan{
		Target: spec.Target, FlyApp: spec.FlyApp, URL: state.URL, Level: spec.Level, Strategy: spec.Strategy,
		MaxUnavailable: spec.MaxUnavailable, Wait: spec.Wait, Probe: spec.Probe, Image: spec.Image,
		MachineVersions: machineVersions(state), Cordoned: cordonedMachines(state), Changed: len(waves) > 0, RefuseUnchecked: spec.RefuseUnchecked,
	}
	if t.Changed {
		t.Secrets = state.Secrets
		t.Definition = spec.Definition
		t.Notes = spec.planNotes(state, waves)
		if len(state.Addresses) == 0 && len(state.Machines) == 0 {
			t.Addresses = spec.Addresses
		}
		t.Warnings = spec.rolloutWarnings(state)
		for _, g := range spec.newGroups(state) {
			t.NewGroups = append(t.NewGroups, g.Name)
		}
	}
	isPrivate := state.Private && !slices.ContainsFunc(t.Addresses, isPublicAddress)
	if isPrivate { // it has no public address
		t.URL = ""
		t.Probe = nil
	}
	if t.Unchecked = t.Probe == nil && !spec.hasChecks(); t.Unchecked && t.Changed {
		t.Warnings = append(t.Warnings, uncheckedWarning(isPrivate))
	}
	return t
}

func machineVersions(s State) map[string]string {
	versions := map[string]string{}
	for _, m := range slices.Concat(s.Machines, s.Leftovers) {
		versions[m.ID] = m.Version
	}
	return versions
}

// cordonedMachines returns the IDs of the machines that are cordoned.
func cordonedMachines(s State) (ids []string) {
	for _, m := range slices.Concat(s.Machines, s.Leftovers) {
		if m.Cordoned {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

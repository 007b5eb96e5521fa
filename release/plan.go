package release

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// A Wave is a list of steps that run together. The next wave starts when every step
// is done and Settle has passed.
type Wave struct {
	Title  string   `json:"title"`
	Lanes  []Lane   `json:"lanes"`
	Settle Duration `json:"settle,omitempty"`
	// Irreversible is true for waves that cannot be rolled back. They run after the
	// environment is verified and baked.
	Irreversible bool `json:"irreversible,omitempty"`
	// VerifyWhileSettling is true if the environment is verified repeatedly while the
	// wave settles, as for a canary.
	VerifyWhileSettling bool `json:"verify_while_settling,omitempty"`
}

// A Lane is the steps of a wave in one group of one target, with a concurrency limit.
type Lane struct {
	MaxConcurrent int    `json:"max_concurrent"` // maximum number of concurrent steps, 1 or more
	Steps         []Step `json:"steps"`
}

// A Verb is the kind of change that a step makes to its machine.
type Verb string

const (
	Create   Verb = "create"
	Update   Verb = "update" // change the config in place; a stopped machine stays stopped
	Start    Verb = "start"
	Stop     Verb = "stop"
	Cordon   Verb = "cordon"   // stop new requests of the proxy
	Uncordon Verb = "uncordon" // allow requests of the proxy
	Destroy  Verb = "destroy"  // stop and remove
	Run      Verb = "run"      // run the release command on a machine of its own
)

// A Step is one change of one machine.
type Step struct {
	Verb    Verb   `json:"verb"`
	Target  Target `json:"target"`
	FlyApp  string `json:"fly_app"`
	Machine string `json:"machine"` // its ID, or its planned name if the plan creates it
	Group   string `json:"group"`
	Region  string `json:"region,omitempty"`
	// Version is the instance_id that the machine must have (compare-and-set).
	// If it is empty, any version is accepted.
	Version string          `json:"version,omitempty"`
	From    Image           `json:"from,omitempty"`
	To      Image           `json:"to,omitempty"`
	Before  json.RawMessage `json:"before,omitempty"`
	After   json.RawMessage `json:"after,omitempty"` // config, for create and update
	// Verbatim is true in a restore: the config is applied without change. Other
	// configs get the metadata of the release.
	Verbatim bool `json:"verbatim,omitempty"`
	// SkipLaunch is true if the machine is created or restored without a start. Other
	// updates keep a machine started or stopped.
	SkipLaunch bool `json:"skip_launch,omitempty"`
	// Launch is true if the update starts the machine, also if it is stopped.
	Launch bool `json:"launch,omitempty"`
	// Cordoned is true if the machine is created cordoned.
	Cordoned   bool   `json:"cordoned,omitempty"`
	StandbyFor string `json:"standby_for,omitempty"` // planned name of the machine that it stands by for
	// Replaces is the ID of the machine that this one replaces. The last waves of
	// the plan destroy that machine.
	Replaces string `json:"replaces,omitempty"`
	// SkipHealthCheck is true if the step does not wait until the machine is healthy,
	// because the machine was not healthy in the baseline.
	SkipHealthCheck bool `json:"skip_health_check,omitempty"`
	// Volume is the volume to attach to a created machine.
	Volume *NewVolume `json:"volume,omitempty"`
	// MachineChecks are configs of machines that each run a check command against
	// the changed machine after it is healthy.
	MachineChecks []json.RawMessage `json:"machine_checks,omitempty"`
	Command       string            `json:"command,omitempty"` // the release command as written in fly.toml
	Wait          Duration          `json:"wait,omitempty"`
}

func (s Step) String() string {
	return fmt.Sprintf("%s %s of %s", s.Verb, s.Machine, s.Target)
}

// WithoutRemovals returns w without the cordon, stop and destroy steps of the given
// targets.
func (w Wave) WithoutRemovals(targets map[Target]bool) Wave {
	lanes := w.Lanes
	w.Lanes = nil
	for _, l := range lanes {
		l.Steps = slices.DeleteFunc(slices.Clone(l.Steps), func(s Step) bool {
			return targets[s.Target] && (s.Verb == Cordon || s.Verb == Stop || s.Verb == Destroy)
		})
		if len(l.Steps) > 0 {
			w.Lanes = append(w.Lanes, l)
		}
	}
	return w
}

// IsEmpty reports whether p has no waves.
func (p Plan) IsEmpty() bool { return len(p.Waves) == 0 }

// Steps returns all steps in order.
func (p Plan) Steps() (steps []Step) {
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
	q := p.editSteps(func(s *Step) { s.Before, s.After, s.MachineChecks = nil, nil, nil })
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

// WithContentHash returns p with the hash of everything that it changes. The hash covers
// every config in canonical form; a step contributes the hashes of its configs, which
// are cached.
//
// Hashing a large plan takes seconds. An activity calls WithContentHash when it makes the
// plan, so that Seal, which workflow code calls, is fast.
func (p Plan) WithContentHash() Plan {
	bare := p.editSteps(func(s *Step) {
		s.Before, s.After, s.Machine = hashAsJSON(s.Before), hashAsJSON(s.After), s.machineBeforeSeal()
		checks := make([]json.RawMessage, len(s.MachineChecks))
		for i, config := range s.MachineChecks {
			checks[i] = hashAsJSON(config)
		}
		s.MachineChecks = checks
	})
	bare.Run, bare.Hash, bare.ContentHash = "", "", ""
	bare.Lineage, bare.Skipped = Lineage{}, nil // set later, and hashed by Seal
	bare.Targets = slices.Clone(p.Targets)
	for i, t := range bare.Targets {
		bare.Targets[i].Definition = hashAsJSON(t.Definition)
	}
	p.ContentHash = hashJSON(bare)
	return p
}

// hashAsJSON returns the hash of a document as a JSON string, or nil for no document.
func hashAsJSON(doc json.RawMessage) json.RawMessage {
	if len(doc) == 0 {
		return nil
	}
	return json.RawMessage(strconv.Quote(hashConfig(doc)))
}

// machineBeforeSeal returns the machine of s as it is in a plan that is not sealed.
func (s Step) machineBeforeSeal() string {
	if s.Verb == Run {
		return ""
	}
	return s.Machine
}

// Seal returns p for one run of a workflow, with its hash. The hash covers the run
// ID, so that an approval for another run of the same release, for example before a
// reset, does not count. Machines that run a release command are named after the run:
// the command runs once per run.
func (p Plan) Seal(run string) Plan {
	if p.ContentHash == "" {
		p = p.WithContentHash()
	}
	p = p.editSteps(func(s *Step) {
		if s.Verb == Run {
			s.Machine = "release-command-" + hashJSON([]any{run, s.Target, hashAsJSON(s.After)})[:12]
		}
	})
	p.Run, p.Hash = run, hashJSON([]any{run, p.Lineage, p.Skipped, p.ContentHash})
	return p
}

// ShortHash returns the first 12 digits of the hash.
func (p Plan) ShortHash() string { return p.Hash[:min(12, len(p.Hash))] }

// MatchesHash reports whether digits are the first 8 or more digits of the hash.
func (p Plan) MatchesHash(digits string) bool {
	return len(digits) >= 8 && p.Hash != "" && strings.HasPrefix(p.Hash, strings.ToLower(digits))
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
		t.Secrets, t.Definition, t.Notes = state.Secrets, spec.Definition, spec.planNotes(state, waves)
		if len(state.Addresses) == 0 && len(state.Machines) == 0 {
			t.Addresses = spec.Addresses
		}
		t.Warnings = spec.rolloutWarnings(state)
		for _, g := range spec.newGroups(state) {
			t.NewGroups = append(t.NewGroups, g.Name)
		}
	}
	isPrivate := state.Private && !slices.ContainsFunc(t.Addresses, isPublicAddress)
	if isPrivate {
		t.URL, t.Probe = "", nil // it has no public address
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

// mergeWaves merges two lists of waves by position, for targets that do not need each
// other: the first waves of both become one wave, and so on.
func mergeWaves(a, b []Wave) []Wave {
	for i, w := range b {
		if i == len(a) {
			return append(a, b[i:]...)
		}
		a[i].Lanes = append(a[i].Lanes, w.Lanes...)
		a[i].Settle = max(a[i].Settle, w.Settle)
		a[i].VerifyWhileSettling = a[i].VerifyWhileSettling || w.VerifyWhileSettling
		a[i].Title = joinTitles(a[i].Title, w.Title)
	}
	return a
}

// joinTitles returns the titles of a and b, each once.
func joinTitles(a, b string) string {
	titles := strings.Split(a, ", ")
	for _, title := range strings.Split(b, ", ") {
		if !slices.Contains(titles, title) {
			titles = append(titles, title)
		}
	}
	return strings.Join(titles, ", ")
}

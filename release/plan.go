package release

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Plan is the ordered waves that lead from the state of every target of an
// environment to its spec (NewPlan) or to its baseline (Restore). It is what a
// person approves and what is executed, nothing else.
type Plan struct {
	Environment string       `json:"environment"`
	Revision    string       `json:"revision,omitempty"` // commit it leads to; "" for a restore
	Lineage     Lineage      `json:"lineage,omitzero"`   // how it relates to what runs
	Skipped     []Skipped    `json:"skipped,omitempty"`  // environments that it did not go through
	Run         string       `json:"run,omitempty"`      // run ID of the workflow it was sealed for
	Hash        string       `json:"hash,omitempty"`     // 64 hex digits, of Run, Lineage, Skipped and Content
	Content     string       `json:"content,omitempty"`  // 64 hex digits of all else: see WithContent
	Targets     []TargetPlan `json:"targets"`            // every target of the environment, changed or not
	Waves       []Wave       `json:"waves"`
}

// A TargetPlan is what a plan means for one target.
type TargetPlan struct {
	Target         Target            `json:"target"`
	FlyApp         string            `json:"fly_app"`
	URL            string            `json:"url,omitempty"`
	Level          int               `json:"level"`
	Strategy       Strategy          `json:"strategy,omitempty"`
	MaxUnavailable float64           `json:"max_unavailable"`
	Wait           Duration          `json:"wait"`
	Probe          *Probe            `json:"probe,omitempty"`
	Image          Image             `json:"image,omitempty"` // what it leads to
	Seen           map[string]string `json:"seen"`            // machine ID → version that the plan was made for
	Changed        bool              `json:"changed"`
	// Secrets are those that the changed machines will see.
	Secrets []Secret `json:"secrets,omitempty"`
	// Addresses are kinds of IP address to ask for: it has none yet.
	Addresses []string `json:"addresses,omitempty"`
	// Unchecked: neither fly.toml nor release.toml says how to find out whether
	// it is well. RefuseUnchecked: release.toml does not let that be promoted.
	Unchecked       bool `json:"unchecked,omitempty"`
	RefuseUnchecked bool `json:"refuse_unchecked,omitempty"`
	// Notes are what a person should know before saying yes; Warnings, also after.
	Notes      []string        `json:"notes,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty"` // fly.toml in Fly's form, for the Fly release
}

// A Wave is steps done together. The next wave starts when every one of them
// is done and the wave has settled.
type Wave struct {
	Title  string   `json:"title"`
	Lanes  []Lane   `json:"lanes"`
	Settle Duration `json:"settle,omitempty"`
	// Last waves hold what can't be taken back. They are carried out once the
	// new is verified and baked.
	Last bool `json:"last,omitempty"`
	// Watch: while it settles, the environment is verified again and again. A
	// canary bakes.
	Watch bool `json:"watch,omitempty"`
}

// A Lane is the steps of a wave in one group of one target, and how many of
// them may be in flight at once.
type Lane struct {
	AtOnce int    `json:"at_once"` // 1 or more
	Steps  []Step `json:"steps"`
}

// A Verb is what a step does to its machine.
type Verb string

const (
	Create   Verb = "create"
	Update   Verb = "update" // another config, in place; a stopped machine stays stopped
	Start    Verb = "start"
	Stop     Verb = "stop"
	Cordon   Verb = "cordon"   // the proxy sends it nothing new
	Uncordon Verb = "uncordon" // the proxy may use it
	Destroy  Verb = "destroy"  // stop it, then remove it
	Run      Verb = "run"      // a machine of its own runs the release command to its end
)

// A Step is one verb on one machine.
type Step struct {
	Verb    Verb   `json:"verb"`
	Target  Target `json:"target"`
	FlyApp  string `json:"fly_app"`
	Machine string `json:"machine"` // its ID, or its planned name where the plan creates it
	Group   string `json:"group"`
	Region  string `json:"region,omitempty"`
	// Version is the instance_id that the machine must have: a compare-and-set.
	// Empty where the step doesn't depend on it.
	Version string          `json:"version,omitempty"`
	From    Image           `json:"from,omitempty"`
	To      Image           `json:"to,omitempty"`
	Before  json.RawMessage `json:"before,omitempty"`
	After   json.RawMessage `json:"after,omitempty"` // config, for create and update
	// Exact configs are applied as they are: a restore. Others are stamped
	// with the release they belong to.
	Exact bool `json:"exact,omitempty"`
	// Idle machines are created, or restored, without being started. (An update
	// that is no restore leaves a machine started or stopped as it finds it.)
	Idle bool `json:"idle,omitempty"`
	// Hidden machines are created cordoned.
	Hidden     bool   `json:"hidden,omitempty"`
	StandbyFor string `json:"standby_for,omitempty"` // planned name of the machine it stands by for
	// Succeeds is the ID of the machine in whose place this one is created; the
	// plan's last waves destroy it.
	Succeeds string `json:"succeeds,omitempty"`
	// Unchecked machines are not waited for to be healthy: they were not
	// healthy in the baseline either.
	Unchecked bool `json:"unchecked,omitempty"`
	// Volume is what a created machine is attached to.
	Volume *NewVolume `json:"volume,omitempty"`
	// MachineChecks run beside the machine once it is well: configs of the
	// machines that do.
	MachineChecks []json.RawMessage `json:"machine_checks,omitempty"`
	Command       string            `json:"command,omitempty"` // what is run, for people
	Wait          Duration          `json:"wait,omitempty"`
}

func (s Step) String() string {
	return fmt.Sprintf("%s %s of %s", s.Verb, s.Machine, s.Target)
}

// Sparing is w without what takes machines of those targets out of service.
func (w Wave) Sparing(targets map[Target]bool) Wave {
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

// Empty says whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Waves) == 0 }

// Steps are all steps, in order.
func (p Plan) Steps() (steps []Step) {
	for _, w := range p.Waves {
		for _, l := range w.Lanes {
			steps = append(steps, l.Steps...)
		}
	}
	return steps
}

// Waves until the new is verified and baked, and those that wait for it.
func (p Plan) wavesByLast(last bool) Plan {
	q := p
	q.Waves = nil
	for _, w := range p.Waves {
		if w.Last == last {
			q.Waves = append(q.Waves, w)
		}
	}
	return q
}

// First is the part of p that can be taken back.
func (p Plan) First() Plan { return p.wavesByLast(false) }

// Until is p up to and with wave i.
func (p Plan) Until(i int) Plan {
	q := p
	q.Waves = p.Waves[:i+1]
	return q
}

// Last is the part of p that can't be taken back.
func (p Plan) Last() Plan { return p.wavesByLast(true) }

// Outline is p without machine configs: enough to say what was done.
func (p Plan) Outline() Plan {
	q := p.editSteps(func(s *Step) { s.Before, s.After, s.MachineChecks = nil, nil, nil })
	q.Targets = slices.Clone(p.Targets)
	for i := range q.Targets {
		q.Targets[i].Definition = nil
	}
	return q
}

// editSteps is p with every step edited.
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

// WithContent returns p with the hash of all that it does. The
// hash covers the whole of every config, by its canonical form: a step counts
// with the hashes of its configs, and equal configs are hashed once.
//
// A large plan takes seconds to hash. So the activity that makes a plan calls
// WithContent last, and Sealed, which a workflow calls, has little to do.
func (p Plan) WithContent() Plan {
	bare := p.editSteps(func(s *Step) {
		s.Before, s.After, s.Machine = hashAsJSON(s.Before), hashAsJSON(s.After), s.machineBeforeSeal()
		checks := make([]json.RawMessage, len(s.MachineChecks))
		for i, config := range s.MachineChecks {
			checks[i] = hashAsJSON(config)
		}
		s.MachineChecks = checks
	})
	bare.Run, bare.Hash, bare.Content = "", "", ""
	bare.Lineage, bare.Skipped = Lineage{}, nil // found later, and hashed by Sealed
	bare.Targets = slices.Clone(p.Targets)
	for i, t := range bare.Targets {
		bare.Targets[i].Definition = hashAsJSON(t.Definition)
	}
	p.Content = hashJSON(bare)
	return p
}

// hashAsJSON returns the hash of a document as JSON, or nothing for no document.
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

// Sealed is p for one run of a workflow, with its hash. The hash covers the
// run, so that a decision for another run of the same release, as a reset
// makes one, never counts for this one. Machines that run a release command are
// named after the run: the command runs once for it, and again for another.
func (p Plan) Sealed(run string) Plan {
	if p.Content == "" {
		p = p.WithContent()
	}
	p = p.editSteps(func(s *Step) {
		if s.Verb == Run {
			s.Machine = "release-command-" + hashJSON([]any{run, s.Target, hashAsJSON(s.After)})[:12]
		}
	})
	p.Run, p.Hash = run, hashJSON([]any{run, p.Lineage, p.Skipped, p.Content})
	return p
}

// Short is the part of the hash that people use.
func (p Plan) Short() string { return p.Hash[:min(12, len(p.Hash))] }

// IsNamed says whether digits, 8 or more of them, name this plan.
func (p Plan) IsNamed(digits string) bool {
	return len(digits) >= 8 && p.Hash != "" && strings.HasPrefix(p.Hash, strings.ToLower(digits))
}

// Stale says why p no longer fits what Fly runs, or "" if it does. A machine
// that was started or stopped in between is no reason; one that was changed,
// added or removed is.
func (p Plan) Stale(now []State) string {
	for _, t := range p.Targets {
		i := slices.IndexFunc(now, func(s State) bool { return s.Target == t.Target })
		if i < 0 {
			return fmt.Sprintf("%s was not looked at", t.Target)
		}
		for _, m := range now[i].Machines {
			switch version, known := t.Seen[m.ID]; {
			case !known:
				return fmt.Sprintf("%s has a machine that the plan does not know: %s (%s)", t.Target, m.ID, m.Name)
			case version != m.Version:
				return fmt.Sprintf("machine %s of %s was changed since: it is at version %s, the plan was made for %s", m.ID, t.Target, m.Version, version)
			}
		}
		if len(now[i].Machines) < len(t.Seen) {
			return fmt.Sprintf("%s has %d machines, the plan was made for %d", t.Target, len(now[i].Machines), len(t.Seen))
		}
		if why := checkSecretsUnchanged(t.Secrets, now[i].Secrets); t.Changed && why != "" {
			return fmt.Sprintf("%s: %s since the plan was made", t.Target, why)
		}
	}
	return ""
}

// NewPlan orders the steps that bring every target from its state to its spec.
// It is a pure function: same arguments, same plan, byte for byte. Targets
// that others need come first; a target with nothing to change contributes no
// steps. Every spec must have a state.
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
				return Plan{}, fmt.Errorf("plan %s: nobody has looked at what %s runs", environment, spec.Target)
			}
			w, err := spec.planWaves(states[i])
			if err != nil {
				return Plan{}, fmt.Errorf("plan %s: %w", environment, err)
			}
			plan.Targets = append(plan.Targets, newTargetPlan(spec, states[i], w))
			waves, lasts = mergeWaves(waves, Plan{Waves: w}.First().Waves), mergeWaves(lasts, Plan{Waves: w}.Last().Waves)
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
		Seen: machineVersions(state), Changed: len(waves) > 0, RefuseUnchecked: spec.RefuseUnchecked,
	}
	if t.Changed {
		t.Secrets, t.Definition, t.Notes = state.Secrets, spec.Definition, spec.planNotes(state, waves)
		if len(state.Addresses) == 0 && len(state.Machines) == 0 {
			t.Addresses = spec.Addresses
		}
		t.Warnings = spec.rolloutWarnings(state)
	}
	isPrivate := state.Private && !slices.ContainsFunc(t.Addresses, isPublicAddress)
	if isPrivate {
		t.URL, t.Probe = "", nil // nothing answers there
	}
	if t.Unchecked = t.Probe == nil && !spec.hasChecks(); t.Unchecked && t.Changed {
		t.Warnings = append(t.Warnings, uncheckedWarning(isPrivate))
	}
	return t
}

func machineVersions(s State) map[string]string {
	versions := map[string]string{}
	for _, m := range slices.Concat(s.Machines, s.Left) {
		versions[m.ID] = m.Version
	}
	return versions
}

// mergeWaves lays two orders of waves side by side: the first waves of both are one
// wave, and so on. It is for targets that don't need each other.
func mergeWaves(a, b []Wave) []Wave {
	for i, w := range b {
		if i == len(a) {
			return append(a, b[i:]...)
		}
		a[i].Lanes = append(a[i].Lanes, w.Lanes...)
		a[i].Settle = max(a[i].Settle, w.Settle)
		a[i].Watch = a[i].Watch || w.Watch
		a[i].Title = joinTitles(a[i].Title, w.Title)
	}
	return a
}

// joinTitles returns the titles of a and of b, each once.
func joinTitles(a, b string) string {
	titles := strings.Split(a, ", ")
	for _, title := range strings.Split(b, ", ") {
		if !slices.Contains(titles, title) {
			titles = append(titles, title)
		}
	}
	return strings.Join(titles, ", ")
}

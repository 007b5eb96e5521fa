package release

import (
	"encoding/json"
	"fmt"
)

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

// A Step is one change of one machine. NewCreate, NewUpdate and the other constructors
// set the fields that its verb uses.
type Step struct {
	Verb    Verb   `json:"verb"`
	Target  Target `json:"target"`
	FlyApp  string `json:"fly_app"`
	Machine string `json:"machine"` // its ID, or its planned name if the plan creates it
	Group   string `json:"group"`
	Region  string `json:"region,omitempty"`
	// Version is the instance_id that the machine must have (compare-and-set).
	// If it is empty, any version is accepted.
	Version string `json:"version,omitempty"`
	From    Image  `json:"from,omitempty"`
	To      Image  `json:"to,omitempty"`
	Before  Config `json:"before,omitzero"` // config of the machine, for update and destroy
	After   Config `json:"after,omitzero"`  // config, for create, update and run
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

// A StepMachine is the machine of a step. Its fields are those of Step.
type StepMachine struct {
	Target  Target
	FlyApp  string
	Machine string
	Group   string
	Region  string
	Version string // "" accepts any version
	From    Image  // "" for a new machine
	Wait    Duration
}

func newStep(v Verb, on StepMachine) Step {
	return Step{
		Verb: v, Target: on.Target, FlyApp: on.FlyApp, Machine: on.Machine, Group: on.Group, Region: on.Region,
		Version: on.Version, From: on.From, Wait: on.Wait,
	}
}

// CreateOptions are the fields of Step that only a create uses.
type CreateOptions struct {
	To            Image
	After         Config
	SkipLaunch    bool
	Cordoned      bool
	StandbyFor    string
	Replaces      string
	Volume        *NewVolume
	MachineChecks []json.RawMessage
}

// NewCreate returns a step that creates a machine with a planned name.
func NewCreate(on StepMachine, o CreateOptions) Step {
	s := newStep(Create, on)
	s.To = o.To
	s.After = o.After
	s.SkipLaunch = o.SkipLaunch
	s.Cordoned = o.Cordoned
	s.StandbyFor = o.StandbyFor
	s.Replaces = o.Replaces
	s.Volume = o.Volume
	s.MachineChecks = o.MachineChecks
	return s
}

// UpdateOptions are the fields of Step that only an update uses.
type UpdateOptions struct {
	To            Image
	Before        Config
	After         Config
	Launch        bool
	MachineChecks []json.RawMessage
}

// NewUpdate returns a step that changes the config of a machine in place.
func NewUpdate(on StepMachine, o UpdateOptions) Step {
	s := newStep(Update, on)
	s.To = o.To
	s.Before = o.Before
	s.After = o.After
	s.Launch = o.Launch
	s.MachineChecks = o.MachineChecks
	return s
}

// NewStart returns a step that starts a machine.
func NewStart(on StepMachine) Step { return newStep(Start, on) }

// NewStop returns a step that stops a machine.
func NewStop(on StepMachine) Step { return newStep(Stop, on) }

// NewCordon returns a step that cordons a machine.
func NewCordon(on StepMachine) Step { return newStep(Cordon, on) }

// NewUncordon returns a step that uncordons a machine.
func NewUncordon(on StepMachine) Step { return newStep(Uncordon, on) }

// NewDestroy returns a step that stops and destroys a machine. before is its config, with
// which a review compares that of its replacement; it may be zero.
func NewDestroy(on StepMachine, before Config) Step {
	s := newStep(Destroy, on)
	s.Before = before
	return s
}

// NewRun returns a step that runs a release command on a machine of its own, which Seal
// names.
func NewRun(on StepMachine, image Image, c Command) Step {
	s := newStep(Run, on)
	s.Region = c.Region
	s.Wait = c.Timeout
	s.To = image
	s.After = c.Config
	s.Command = c.Run
	return s
}

// asRestore returns s as a step of a restore, which brings a machine back to want: it
// applies the config without change, and waits for nothing that want was not.
func (s Step) asRestore(want Machine) Step {
	s.Verbatim = true
	s.SkipLaunch = !want.IsRunning()
	s.SkipHealthCheck = !want.IsHealthy()
	return s
}

// forVerification returns s, a start of m, as the start for a verification. If m is
// stopped in the goal, it is stopped again afterwards.
func (s Step) forVerification(m Machine) Step {
	s.To = m.Image
	s.SkipLaunch = !m.IsRunning()
	return s
}

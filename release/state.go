package release

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// A Spec is what a target should run, from the files at the revision and its
// image.
type Spec struct {
	Target         Target      `json:"target"`
	FlyApp         string      `json:"fly_app"`
	Image          Image       `json:"image"`
	Level          int         `json:"level"` // 0: needs no other app; 1: needs one of level 0; …
	Strategy       Strategy    `json:"strategy"`
	MaxUnavailable float64     `json:"max_unavailable"`  // below 1 a fraction of a group's running machines, else a number
	Wait           Duration    `json:"wait"`             // how long one machine may take to be started and healthy
	Canary         Duration    `json:"canary,omitempty"` // how long the canary runs alone
	Probe          *Probe      `json:"probe,omitempty"`
	Groups         []GroupSpec `json:"groups"`
	// Command is the release command; nil if there is none.
	Command *Command `json:"command,omitempty"`
	// Addresses are the kinds of IP address that a first rollout asks for: v6,
	// shared_v4, …
	Addresses []string `json:"addresses,omitempty"`
	// Definition is fly.toml as JSON, in flyctl's own form: what Fly keeps of
	// a Fly release.
	Definition json.RawMessage `json:"definition,omitempty"`
	// Warnings are what a person should know of it, before a rollout and after it.
	Warnings []string `json:"warnings,omitempty"`
	// RefuseUnchecked: without a check or a probe it is not rolled out.
	RefuseUnchecked bool `json:"refuse_unchecked,omitempty"`
	// Unverified says why Image is not what the environment before has verified;
	// "" if it is.
	Unverified string `json:"unverified,omitempty"`
}

// A Command is a target's release command: it runs once per rollout, on a
// machine of its own, before any machine of the target changes.
type Command struct {
	Run     string          `json:"run"` // as fly.toml writes it
	Config  json.RawMessage `json:"config"`
	Region  string          `json:"region,omitempty"`
	Timeout Duration        `json:"timeout"`
}

// A GroupSpec is what one process group should run.
type GroupSpec struct {
	Name string `json:"name"`
	// New are the machines of a group that has none yet.
	New []NewMachine `json:"new,omitempty"`
	// Machines is the config wanted of each machine that exists, by ID. What a
	// target keeps of its machines (volumes, standbys, …) is already in it.
	Machines map[string]json.RawMessage `json:"machines,omitempty"`
	// Replace says of machines that can't take their config in place, by ID,
	// why: each gets another in its stead.
	Replace map[string]string `json:"replace,omitempty"`
	// Volume is what each new machine needs; nil: none.
	Volume *NewVolume `json:"volume,omitempty"`
	// MachineChecks are commands that must succeed beside each machine that was
	// changed: configs of the machines that run them.
	MachineChecks []json.RawMessage `json:"machine_checks,omitempty"`
}

// A NewVolume is the volume that a machine to be created is attached to: a free
// one of that name in its region.
type NewVolume struct {
	Name string `json:"name"`
	// Ask is what Fly is asked for where none is free, but for the region. Where
	// it is empty there must be a free one.
	Ask json.RawMessage `json:"ask,omitempty"`
}

// A NewMachine is a machine still to be created.
type NewMachine struct {
	Region  string          `json:"region"`
	Config  json.RawMessage `json:"config"`
	Standby bool            `json:"standby,omitempty"` // created, not started: it stands by for the group's first machine
}

// A Probe is our own look at a target from outside.
type Probe struct {
	Path   string `json:"path"`
	Method string `json:"method,omitempty"` // "" is GET
	// Headers are sent with it, as the check of fly.toml has them.
	Headers map[string][]string `json:"headers,omitempty"`
	// Scheme is http where the Fly app takes no TLS; else that of its URL.
	Scheme string `json:"scheme,omitempty"`
	// Setting names what has to be changed to send another one: the key and its
	// file.
	Setting string `json:"setting,omitempty"`
}

// URL returns where the probe of a Fly app served at base is sent.
func (p Probe) URL(base string) string {
	if rest, ok := strings.CutPrefix(base, "https://"); ok && p.Scheme == "http" {
		base = "http://" + rest
	}
	return base + p.Path
}

// At returns the request for people: GET https://shop.fly.dev/health.
func (p Probe) At(base string) string { return cmp.Or(p.Method, "GET") + " " + p.URL(base) }

// A State is what Fly says a target runs, at one moment.
type State struct {
	Target Target `json:"target"`
	FlyApp string `json:"fly_app"`
	URL    string `json:"url,omitempty"`
	// Definition is the fly.toml that Fly keeps of its newest Fly release.
	Definition json.RawMessage `json:"definition,omitempty"`
	Machines   []Machine       `json:"machines"` // sorted by ID; those destroyed, or about to be, left out
	// Left are machines that a rollout without a report made and that serve nothing: a
	// plan destroys them. Only plans are made from states with them.
	Left []Machine `json:"left,omitempty"`
	// Unread are machines whose host can't be reached and of which Fly tells neither
	// config nor metadata: whose they are is not known.
	Unread []Machine `json:"unread,omitempty"`
	// Foreign are machines in the Fly app that no deploy made. They are shown
	// and never touched.
	Foreign []string `json:"foreign,omitempty"`
	// Commands are machines that run a release command, a check or a console for
	// somebody: a sentence each. They come and go by themselves.
	Commands []string `json:"commands,omitempty"`
	Volumes  []Volume `json:"volumes,omitempty"`
	// Addresses are the Fly app's IP addresses.
	Addresses []string `json:"addresses,omitempty"`
	// Private: Fly lists its addresses, and none of them is public. Its URL leads
	// nowhere.
	Private bool `json:"private,omitempty"`
	// Sick says why its probe failed before the first change; "" if it did not,
	// or was not sent.
	Sick    string   `json:"sick,omitempty"`
	Secrets []Secret `json:"secrets,omitempty"`
	// SecretsVersion counts the changes of the app's secrets; 0: not known.
	SecretsVersion uint64 `json:"secrets_version,omitempty"`
}

// A Volume is a Fly volume.
type Volume struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Region   string `json:"region"`
	Attached string `json:"attached,omitempty"` // ID of the machine that has it
	Free     bool   `json:"free,omitempty"`     // a new machine may take it
}

// A Secret is a secret of a Fly app, without its value.
type Secret struct {
	Name    string    `json:"name"`
	Updated time.Time `json:"updated"` // when its value was set last
}

// A Machine is what a release needs to know of a Fly machine.
type Machine struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Group    string          `json:"group"`
	Region   string          `json:"region"`
	State    string          `json:"state"`   // Fly's word: started, stopped, …
	Version  string          `json:"version"` // Fly's instance_id: another one after each update
	Image    Image           `json:"image"`   // what it runs, with the digest that Fly reports
	Config   json.RawMessage `json:"config"`
	Cordoned bool            `json:"cordoned,omitempty"`
	Host     string          `json:"host,omitempty"` // "" is well; else Fly's host_status
	Checks   []Check         `json:"checks,omitempty"`
	Release  string          `json:"release,omitempty"`  // by which release, from its metadata
	Revision string          `json:"revision,omitempty"` // of which commit
	Client   string          `json:"client,omitempty"`   // that changed it last, as Fly's metadata have it, where it was not this program
	NoRoom   bool            `json:"no_room,omitempty"`  // its host has no room for another version of it
	Created  bool            `json:"created,omitempty"`  // a plan of ours created it
	// Exit is how the process of this version ended, if nobody had asked it to;
	// also where Fly has started it again since.
	Exit *Exit `json:"exit,omitempty"`
	// Crashed: the machine is stopped because its process ended with an error, and Fly
	// no longer restarts it. False where its restart policy is "no".
	Crashed bool `json:"crashed,omitempty"`
	// Made is when this version was made: it has the secrets of that moment.
	Made    time.Time `json:"made,omitzero"`
	Updated time.Time `json:"updated,omitzero"`
}

// A Check is the last result of one of Fly's health checks.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"` // passing, warning, critical
	Output string `json:"output,omitempty"`
}

// Running says whether m takes part in serving, or is about to.
func (m Machine) Running() bool {
	return slices.Contains([]string{"started", "starting", "restarting", "replacing", "updating", "creating"}, m.State)
}

// Launches reports whether an update, or a machine that replaces m, is started: m
// runs, or it failed or crashed and gets another chance. Others stay stopped.
func (m Machine) Launches() bool { return m.Running() || m.State == "failed" || m.Crashed }

// Healthy says whether m is started and every check it has passes.
func (m Machine) Healthy() bool {
	return m.State == "started" && !slices.ContainsFunc(m.Checks, func(c Check) bool { return c.Status != "passing" })
}

// parseStandbyFor is the ID of the machine that a config stands by for, or "".
func parseStandbyFor(config json.RawMessage) string {
	var c struct{ Standbys []string }
	if json.Unmarshal(config, &c) != nil || len(c.Standbys) == 0 {
		return ""
	}
	return c.Standbys[0]
}

// hasAutostop says whether Fly's proxy may stop a machine of that config when
// nobody needs it.
func hasAutostop(config json.RawMessage) bool {
	var c struct{ Services []struct{ Autostop any } }
	return json.Unmarshal(config, &c) == nil && slices.ContainsFunc(c.Services, func(s struct{ Autostop any }) bool {
		return s.Autostop == true || s.Autostop == "stop" || s.Autostop == "suspend"
	})
}

// Rests says whether m is stopped until somebody needs it, and Fly's proxy starts
// it then: the proxy stopped it, or its process ended with exit code 0, as one
// that stops itself when it is idle. One that failed does not rest.
func (m Machine) Rests() bool {
	stopped := m.State == "stopped" || m.State == "suspended" || m.State == "stopping" || m.State == "suspending"
	if m.Ended() {
		return hasAutostart(m.Config)
	}
	return stopped && !m.Exit.isFailure() && hasAutostop(m.Config)
}

// Machine returns the machine with that ID or, for machines that a plan
// created, that name.
func (s State) Machine(ref string) (Machine, bool) {
	for _, m := range s.Machines {
		if m.ID == ref || m.Name == ref {
			return m, true
		}
	}
	return Machine{}, false
}

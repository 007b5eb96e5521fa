package release

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// A Spec is the desired state of a target, from the files at the revision and its image.
type Spec struct {
	Target         Target      `json:"target"`
	FlyApp         string      `json:"fly_app"`
	Image          Image       `json:"image"`
	Level          int         `json:"level"` // 0: needs no other app; 1: needs an app of level 0; …
	Strategy       Strategy    `json:"strategy"`
	MaxUnavailable float64     `json:"max_unavailable"`  // below 1 a fraction of the running machines of a group, else a number
	Wait           Duration    `json:"wait"`             // time limit for one machine to become healthy
	Canary         Duration    `json:"canary,omitempty"` // bake time of a canary
	Probe          *Probe      `json:"probe,omitempty"`
	Groups         []GroupSpec `json:"groups"`
	// Command is the release command, or nil.
	Command *Command `json:"command,omitempty"`
	// Addresses are the kinds of IP address to allocate in a first rollout: v6,
	// shared_v4, …
	Addresses []string `json:"addresses,omitempty"`
	// Definition is fly.toml as JSON in flyctl's form. Fly stores it with a Fly
	// release.
	Definition json.RawMessage `json:"definition,omitempty"`
	// Warnings are shown before and after the rollout.
	Warnings []string `json:"warnings,omitempty"`
	// RefuseUnchecked is true if a rollout without a check or probe is refused.
	RefuseUnchecked bool `json:"refuse_unchecked,omitempty"`
	// UnverifiedReason is the reason why Image is not the image verified in the previous
	// environment, or "".
	UnverifiedReason string `json:"unverified_reason,omitempty"`
}

// A Command is the release command of a target. It runs once per rollout, on a machine
// of its own, before any machine of the target changes.
type Command struct {
	Run     string   `json:"run"` // as written in fly.toml
	Config  Config   `json:"config"`
	Region  string   `json:"region,omitempty"`
	Timeout Duration `json:"timeout"`
}

// A GroupSpec is the desired state of one process group.
type GroupSpec struct {
	Name string `json:"name"`
	// New are the machines to create if the group has none.
	New []NewMachine `json:"new,omitempty"`
	// Machines maps the IDs of existing machines to their desired configs, which
	// already contain the values to keep: volumes, standbys, ….
	Machines map[string]Config `json:"machines,omitempty"`
	// Replace maps the IDs of machines that cannot be updated in place to the reason.
	// A new machine replaces each of them.
	Replace map[string]string `json:"replace,omitempty"`
	// Volume is the volume that each new machine needs, or nil.
	Volume *NewVolume `json:"volume,omitempty"`
	// MachineChecks are configs of machines that each run a check command. They must
	// succeed for each changed machine.
	MachineChecks []json.RawMessage `json:"machine_checks,omitempty"`
}

// A NewVolume is the volume to attach to a new machine: a free one with that name in its
// region.
type NewVolume struct {
	Name string `json:"name"`
	// CreateRequest is the request, without region, that creates the volume if none is
	// free. If it is empty, one must be free.
	CreateRequest json.RawMessage `json:"create_request,omitempty"`
}

// A NewMachine is a machine to create.
type NewMachine struct {
	Region  string `json:"region"`
	Config  Config `json:"config"`
	Standby bool   `json:"standby,omitempty"` // created but not started: it replaces the group's first machine if that fails
}

// A Probe is an HTTP request that this program sends to a target.
type Probe struct {
	Path   string `json:"path"`
	Method string `json:"method,omitempty"` // "" is GET
	// Headers are the headers of the check in fly.toml.
	Headers map[string][]string `json:"headers,omitempty"`
	// Scheme is http if the Fly app does not use TLS; "" for the scheme of its URL.
	Scheme string `json:"scheme,omitempty"`
	// Setting is the key and file that configure the probe.
	Setting string `json:"setting,omitempty"`
}

// URL returns the URL of the probe for a Fly app at base.
func (p Probe) URL(base string) string {
	if rest, ok := strings.CutPrefix(base, "https://"); ok && p.Scheme == "http" {
		base = "http://" + rest
	}
	return base + p.Path
}

// Describe returns the request in one line: GET https://shop.fly.dev/health.
func (p Probe) Describe(base string) string { return cmp.Or(p.Method, "GET") + " " + p.URL(base) }

// A State is the state of a target at one moment, as reported by Fly.
type State struct {
	Target Target `json:"target"`
	FlyApp string `json:"fly_app"`
	URL    string `json:"url,omitempty"`
	// Definition is the fly.toml stored with the newest Fly release.
	Definition json.RawMessage `json:"definition,omitempty"`
	Machines   []Machine       `json:"machines"` // sorted by ID, without those destroyed or being destroyed
	// Leftovers are machines that a rollout without a report created and that serve no
	// traffic. A plan destroys them. Only states for plans have them.
	Leftovers []Machine `json:"leftovers,omitempty"`
	// Unidentified are machines on unreachable hosts for which Fly reports neither config
	// nor metadata, so that their group is unknown.
	Unidentified []Machine `json:"unidentified,omitempty"`
	// Foreign are machines that no deploy created. Plans leave them alone.
	Foreign []string `json:"foreign,omitempty"`
	// Commands are a sentence for each machine that runs a release command, a check or
	// a console. They are temporary.
	Commands []string `json:"commands,omitempty"`
	Volumes  []Volume `json:"volumes,omitempty"`
	// Addresses are the IP addresses of the Fly app.
	Addresses []string `json:"addresses,omitempty"`
	// Private is true if Fly lists the addresses and none is public, so that the URL
	// does not resolve.
	Private bool `json:"private,omitempty"`
	// ProbeError is the error of the probe before the first change; "" if it passed or
	// was not sent.
	ProbeError string   `json:"probe_error,omitempty"`
	Secrets    []Secret `json:"secrets,omitempty"`
	// SecretsVersion counts the changes of the app's secrets; 0 is unknown.
	SecretsVersion uint64 `json:"secrets_version,omitempty"`
}

// A Volume is a Fly volume.
type Volume struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Region     string `json:"region"`
	AttachedTo string `json:"attached_to,omitempty"` // ID of the machine that uses it
	Free       bool   `json:"free,omitempty"`        // available to a new machine
}

// A Secret is the name of a secret of a Fly app and the time of its last change.
type Secret struct {
	Name    string    `json:"name"`
	Updated time.Time `json:"updated"` // last change of its value
}

// A Machine is a Fly machine with the facts that a release uses.
type Machine struct {
	ID            string  `json:"id"`
	Name          string  `json:"name"`
	Group         string  `json:"group"`
	Region        string  `json:"region"`
	State         string  `json:"state"`   // as reported by Fly: started, stopped, …
	Version       string  `json:"version"` // Fly's instance_id, which changes with each update
	Image         Image   `json:"image"`   // running image, with the digest that Fly reports
	Config        Config  `json:"config,omitzero"`
	Cordoned      bool    `json:"cordoned,omitempty"`
	Host          string  `json:"host,omitempty"` // "" if reachable; else Fly's host_status
	Checks        []Check `json:"checks,omitempty"`
	Release       string  `json:"release,omitempty"`         // workflow ID of the release, from its metadata
	Revision      string  `json:"revision,omitempty"`        // commit, from its metadata
	Client        string  `json:"client,omitempty"`          // other client that changed it last, from its metadata
	HostFull      bool    `json:"host_full,omitempty"`       // its host has no room for a new version
	CreatedByPlan bool    `json:"created_by_plan,omitempty"` // created by a plan
	// Exit is the last exit of this version without a request to stop, also if Fly
	// has restarted it since.
	Exit *Exit `json:"exit,omitempty"`
	// Crashed is true if the machine is stopped because its process failed and Fly no
	// longer restarts it. It is false with the restart policy "no".
	Crashed bool `json:"crashed,omitempty"`
	// Halted is true if a rollout without a report stopped the machine, which ran
	// before it. The next plan starts it.
	Halted bool `json:"halted,omitempty"`
	// Superseded is true if a rollout without a report created its replacement, which
	// serves. The next plan destroys it.
	Superseded bool `json:"superseded,omitempty"`
	// VersionTime is when this version was made. It has the secrets of that time.
	VersionTime time.Time `json:"version_time,omitzero"`
	Updated     time.Time `json:"updated,omitzero"`
}

// A Check is the last result of one of Fly's health checks.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"` // passing, warning, critical
	Output string `json:"output,omitempty"`
}

// IsRunning reports whether m is started or about to be started.
func (m Machine) IsRunning() bool {
	return slices.Contains([]string{"started", "starting", "restarting", "replacing", "updating", "creating"}, m.State)
}

// StartsOnUpdate reports whether an update starts m or its replacement: m is running,
// it failed or crashed, or a rollout without a report stopped it. Other machines stay
// stopped.
func (m Machine) StartsOnUpdate() bool {
	return m.IsRunning() || m.State == "failed" || m.Crashed || m.Halted
}

// IsHealthy reports whether m is started and all its checks pass.
func (m Machine) IsHealthy() bool {
	return m.State == "started" && !slices.ContainsFunc(m.Checks, func(c Check) bool { return c.Status != "passing" })
}

// IsFailing reports whether m runs on a reachable host and is not healthy.
func (m Machine) IsFailing() bool { return m.IsRunning() && !m.IsHealthy() && m.Host == "" }

// IsAsleep reports whether m is stopped and Fly's proxy starts it for the next request:
// the proxy stopped it, or its process ended with exit code 0. A failed machine does
// not rest.
func (m Machine) IsAsleep() bool {
	stopped := m.State == "stopped" || m.State == "suspended" || m.State == "stopping" || m.State == "suspending"
	if m.HasCompleted() {
		return m.Config.Facts().Autostart
	}
	return stopped && !m.Exit.isFailure() && m.Config.Facts().Autostop
}

// FindMachine returns the machine with that ID, or with that name, for machines that a
// plan created.
func (s State) FindMachine(ref string) (Machine, bool) {
	for _, m := range s.Machines {
		if m.ID == ref || m.Name == ref {
			return m, true
		}
	}
	return Machine{}, false
}

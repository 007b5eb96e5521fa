package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// Duration is written as people write it: "1m30s".
type Duration = release.Duration

// A Case is everything that one simulation is made of: a project, what runs of
// it, who releases and decides what, and what goes wrong. The same Case always
// goes the same way. It is plain data, to be written down, shrunk and run again.
type Case struct {
	Why          string        `json:"why,omitempty"` // it is kept
	Seed         uint64        `json:"seed"`          // of latencies, and of nothing else
	Apps         []App         `json:"apps"`
	Environments []Environment `json:"environments"`
	Releases     []Order       `json:"releases"` // in the order in which they are asked for
	// Answers are what people say of held rollouts, one after the other; then
	// they say retry, and rollback where that is offered and retrying is no use.
	Answers []release.Choice `json:"answers,omitempty"`
	// Repeats: each answer is sent once more when the next question is asked.
	Repeats  bool      `json:"repeats,omitempty"`
	Troubles []Trouble `json:"troubles,omitempty"`
	Poll     Duration  `json:"poll"` // of the activities: the longer, the faster a simulation
	Limits   bool      `json:"limits,omitempty"`
}

// An App is an app of the project, the same in each environment.
type App struct {
	Name     string           `json:"name"`
	Needs    []string         `json:"needs,omitempty"`
	Strategy release.Strategy `json:"strategy"`
	MaxDown  string           `json:"max_unavailable"`
	Command  bool             `json:"command,omitempty"` // has a release command
	Still    bool             `json:"still,omitempty"`   // no revision changes it
	// Like has, by version, the older version that it has the content of: a revert,
	// or a commit that changes only documentation.
	Like     map[string]string `json:"like,omitempty"`
	Secret   bool              `json:"secret,omitempty"`   // needs a secret
	AutoStop bool              `json:"autostop,omitempty"` // Fly's proxy may stop its machines
	Groups   []Group           `json:"groups"`
}

// A Group is a process group, with the machines that run before the first
// release.
type Group struct {
	Name     string           `json:"name"`
	Service  bool             `json:"service,omitempty"` // can be reached from outside, and is checked there
	Checks   int              `json:"checks,omitempty"`  // besides
	Volume   bool             `json:"volume,omitempty"`  // each machine has one
	Standby  bool             `json:"standby,omitempty"` // the last machine stands by for the first
	Machines []InitialMachine `json:"machines"`
}

// A State is how a machine is found.
type InitialMachine struct {
	State    string `json:"state"` // started, stopped
	Cordoned bool   `json:"cordoned,omitempty"`
	Sick     bool   `json:"sick,omitempty"`    // its checks fail
	Crashed  bool   `json:"crashed,omitempty"` // it is stopped because its process kept failing
}

// An Environment is a rung of promotion.
type Environment struct {
	Name         string   `json:"name"`
	Approvals    int      `json:"approvals,omitempty"` // 0: no gate
	Bake         Duration `json:"bake,omitempty"`
	Canary       Duration `json:"canary,omitempty"`
	Irreversible bool     `json:"irreversible,omitempty"`
	Empty        bool     `json:"empty,omitempty"` // nothing runs there yet
}

// An Order is a release that somebody asks for.
type Order struct {
	At       Duration `json:"at,omitempty"` // after the simulation began
	Version  string   `json:"version"`      // v2, v3, v4: a revision
	Rollback bool     `json:"rollback,omitempty"`
	Apps     []string `json:"apps,omitempty"`
	Abort    Duration `json:"abort,omitempty"` // so long after it was asked for; 0: never
	AbortIn  string   `json:"abort_in,omitempty"`
	// Decisions are made each time the release waits at a gate.
	Decisions []Decision `json:"decisions,omitempty"`
}

// A Decision is what somebody says at a gate.
type Decision struct {
	After  Duration `json:"after"` // the gate opened; or, if early, the release began
	Early  bool     `json:"early,omitempty"`
	Reject bool     `json:"reject,omitempty"`
	By     string   `json:"by"`
	Plan   string   `json:"plan,omitempty"` // "" is the one being asked about; else: none, short, other, former
	Signal bool     `json:"signal,omitempty"`
	Raw    string   `json:"raw,omitempty"` // instead of a decision: what a broken client sends
}

// valid says whether d is an approval that has to count when it comes in time.
func (d Decision) isValid() bool {
	return !d.Early && !d.Reject && strings.TrimSpace(d.By) != "" && d.Plan == "" && d.Raw == ""
}

const project = "shop"

func flyAppOf(env, app string) string { return project + "-" + env + "-" + app }

// app is the app of a Fly app.
func (c Case) findApp(flyAppName string) (App, Environment, bool) {
	for _, e := range c.Environments {
		for _, a := range c.Apps {
			if flyAppOf(e.Name, a.Name) == flyAppName {
				return a, e, true
			}
		}
	}
	return App{}, Environment{}, false
}

func (a App) findGroup(name string) (Group, bool) {
	for _, g := range a.Groups {
		if g.Name == name {
			return g, true
		}
	}
	return Group{}, false
}

// at is the version of a that a revision has: its own, where the app changes.
func (a App) contentVersion(version string) string {
	if a.Still {
		return "v1"
	}
	return cmp.Or(a.Like[version], version)
}

// digest is that of an app's image at a revision.
func (a App) imageDigest(version string) string {
	return fmt.Sprintf("sha256:%064x", fmt.Sprintf("%.10s-%.8s", a.Name, a.contentVersion(version)))
}

// versions are the revisions that there are, oldest first.
var versions = []string{"v1", "v2", "v3", "v4"}

// commit is the revision of a version.
func commitOf(version string) string { return strings.Repeat(fmt.Sprintf("%x", version), 40)[:40] }

func plainRevision(version string) release.Revision {
	return release.Revision{Commit: commitOf(version), Tree: commitOf(version), Subject: "version " + version}
}

func versionOf(commitHash string) string {
	for _, v := range versions {
		if commitOf(v) == commitHash {
			return v
		}
	}
	return ""
}

// releaseToml is the project's release.toml.
func (c Case) formatReleaseTOML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "project = %q\n", project)
	for _, a := range c.Apps {
		fmt.Fprintf(&b, "[apps.%s]\ngo = \"./%s\"\n", a.Name, a.Name)
		if len(a.Needs) > 0 {
			fmt.Fprintf(&b, "needs = [%s]\n", quoteList(a.Needs))
		}
		if a.Secret {
			fmt.Fprintln(&b, `secrets = ["KEY"]`)
		}
	}
	for i, e := range c.Environments {
		fmt.Fprintf(&b, "[environments.%s]\n", e.Name)
		if i > 0 {
			fmt.Fprintf(&b, "after = %q\n", c.Environments[i-1].Name)
		}
		if e.Bake > 0 {
			fmt.Fprintf(&b, "bake = %q\n", e.Bake)
		}
		if e.Canary > 0 {
			fmt.Fprintf(&b, "canary = %q\n", e.Canary)
		}
		if e.Irreversible {
			fmt.Fprintln(&b, `migrations = "irreversible"`)
		}
		if e.Approvals > 0 {
			fmt.Fprintf(&b, "gate = { approvals = %d, timeout = %q }\n", e.Approvals, gateTimeout)
		}
	}
	return b.String()
}

const gateTimeout = Duration(6 * time.Hour)

// flyToml is an app's fly.toml at a revision.
func (c Case) formatFlyTOML(a App, env Environment, version string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `app = %q
primary_region = "ams"
[deploy]
strategy = %q
max_unavailable = %s
wait_timeout = %q
`, flyAppOf(env.Name, a.Name), a.Strategy, a.MaxDown, waitTimeout)
	if a.Command {
		fmt.Fprintf(&b, "release_command = \"migrate %s\"\nrelease_command_timeout = \"2m\"\n", a.contentVersion(version))
	}
	fmt.Fprintf(&b, "[env]\nLEVEL = %q\n%s", a.contentVersion(version), c.formatNote(a, version))
	if len(a.Groups) > 1 || a.Groups[0].Name != "app" {
		fmt.Fprintln(&b, "[processes]")
		for _, g := range a.Groups {
			fmt.Fprintf(&b, "%s = \"run %s\"\n", g.Name, g.Name)
		}
	}
	for _, g := range a.Groups {
		if g.Service {
			fmt.Fprintf(&b, "[http_service]\ninternal_port = 8080\nprocesses = [%q]\n", g.Name)
			if a.AutoStop {
				fmt.Fprint(&b, "auto_stop_machines = \"stop\"\nauto_start_machines = true\n")
			}
			fmt.Fprint(&b, "[[http_service.checks]]\npath = \"/health\"\ninterval = \"5s\"\ntimeout = \"2s\"\ngrace_period = \"1s\"\n")
		}
		if g.Volume {
			fmt.Fprintf(&b, "[[mounts]]\nsource = \"data\"\ndestination = \"/data\"\nprocesses = [%q]\n", g.Name)
		}
		for i := range g.Checks {
			fmt.Fprintf(&b, "[checks.%s%d]\ntype = \"tcp\"\nport = %d\ninterval = \"5s\"\ntimeout = \"2s\"\nprocesses = [%q]\n", g.Name, i, 9000+i, g.Name)
		}
	}
	return b.String()
}

const waitTimeout = Duration(time.Minute)

func quoteList(names []string) string {
	var all []string
	for _, n := range names {
		all = append(all, fmt.Sprintf("%q", n))
	}
	return strings.Join(all, ", ")
}

// String is c for people, one line for each thing.
func (c Case) String() string {
	var b strings.Builder
	doc := func(v any) string {
		out, err := json.Marshal(v)
		if err != nil {
			panic(err) // plain data
		}
		return string(out)
	}
	fmt.Fprintf(&b, "seed %d, poll %s\n", c.Seed, c.Poll)
	for _, e := range c.Environments {
		fmt.Fprintf(&b, "environment %s\n", doc(e))
	}
	for _, a := range c.Apps {
		groups := a.Groups
		a.Groups = nil
		fmt.Fprintf(&b, "app %s\n", doc(a))
		for _, g := range groups {
			fmt.Fprintf(&b, "    group %s\n", doc(g))
		}
	}
	for _, r := range c.Releases {
		fmt.Fprintf(&b, "release %s\n", doc(r))
	}
	for _, t := range c.Troubles {
		fmt.Fprintf(&b, "trouble %s\n", doc(t))
	}
	if len(c.Answers) > 0 {
		fmt.Fprintf(&b, "answers %s\n", doc(c.Answers))
	}
	return b.String()
}

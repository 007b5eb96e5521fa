package simulation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// Duration is a release.Duration: its JSON form is text like "1m30s".
type Duration = release.Duration

// A Case is the input of one simulation: the project, the machines that run before the
// first release, the releases, the operators' reviews, and the troubles. The same
// Case always takes the same course. It is plain data, so that it can be stored,
// shrunk and run again.
type Case struct {
	Why          string        `json:"why,omitempty"` // the reason to keep this case in testdata
	Seed         uint64        `json:"seed"`          // of the latencies only
	Apps         []App         `json:"apps"`
	Environments []Environment `json:"environments"`
	Releases     []Order       `json:"releases"` // in the order of their start
	// Answers are the operators' answers to held rollouts, in order. After the last
	// one the operators answer retry; if retries do not help, they answer rollback
	// where that is offered.
	Answers []release.Choice `json:"answers,omitempty"`
	// Repeats sends each answer a second time when the next question is open.
	Repeats  bool      `json:"repeats,omitempty"`
	Troubles []Trouble `json:"troubles,omitempty"`
	Poll     Duration  `json:"poll"` // poll interval of the activities; a longer one makes the simulation faster
	Limits   bool      `json:"limits,omitempty"`
}

// An App is an app of the project. It is the same in each environment.
type App struct {
	Name     string           `json:"name"`
	Needs    []string         `json:"needs,omitempty"`
	Strategy release.Strategy `json:"strategy"`
	MaxDown  string           `json:"max_unavailable"`
	Command  bool             `json:"command,omitempty"` // has a release command
	Still    bool             `json:"still,omitempty"`   // its image and config are the same at each revision
	// Like maps a version to the older version with the same content, as after a
	// revert or a commit that changes only documentation.
	Like     map[string]string `json:"like,omitempty"`
	Secret   bool              `json:"secret,omitempty"`   // needs a secret
	AutoStop bool              `json:"autostop,omitempty"` // Fly's proxy may stop its machines
	Groups   []Group           `json:"groups"`
}

// A Group is a process group and its machines before the first release.
type Group struct {
	Name     string           `json:"name"`
	Service  bool             `json:"service,omitempty"` // has an HTTP service with a check
	Checks   int              `json:"checks,omitempty"`  // number of other checks
	Volume   bool             `json:"volume,omitempty"`  // each machine has a volume
	Standby  bool             `json:"standby,omitempty"` // the last machine is a standby of the first
	Machines []InitialMachine `json:"machines"`
}

// An InitialMachine is the condition of a machine before the first release.
type InitialMachine struct {
	State    string `json:"state"` // started or stopped
	Cordoned bool   `json:"cordoned,omitempty"`
	Failing  bool   `json:"failing,omitempty"` // its checks fail
	Crashed  bool   `json:"crashed,omitempty"` // stopped, because its process kept failing
}

// An Environment is an environment of the project, in the order of promotion.
type Environment struct {
	Name         string   `json:"name"`
	Approvals    int      `json:"approvals,omitempty"` // 0 means no gate
	Bake         Duration `json:"bake,omitempty"`
	Canary       Duration `json:"canary,omitempty"`
	Irreversible bool     `json:"irreversible,omitempty"`
	Empty        bool     `json:"empty,omitempty"` // has no machines before the first release
}

// An Order is a release that the simulation starts.
type Order struct {
	At       Duration `json:"at,omitempty"` // counted from the start of the simulation
	Version  string   `json:"version"`      // the revision: v1 to v4
	Rollback bool     `json:"rollback,omitempty"`
	Apps     []string `json:"apps,omitempty"`
	Abort    Duration `json:"abort,omitempty"` // time from the start of the release to its abort; 0 means never
	AbortIn  string   `json:"abort_in,omitempty"`
	// Reviews are sent each time the release waits at a gate.
	Reviews []Review `json:"reviews,omitempty"`
	// Want, if set, is the outcome that the release must have.
	Want release.Outcome `json:"want,omitempty"`
}

// A Review is a review that an operator sends to a gate.
type Review struct {
	After  Duration `json:"after"` // counted from the opening of the gate, or from the start of the release if Early
	Early  bool     `json:"early,omitempty"`
	Reject bool     `json:"reject,omitempty"`
	By     string   `json:"by"`
	Plan   string   `json:"plan,omitempty"` // "" names the plan at the gate; the others are none, short, other and former
	Signal bool     `json:"signal,omitempty"`
	Raw    string   `json:"raw,omitempty"` // a malformed payload, sent instead of the review
}

// isValid reports whether d is an approval that must count if it arrives in time.
func (d Review) isValid() bool {
	return !d.Early && !d.Reject && strings.TrimSpace(d.By) != "" && d.Plan == "" && d.Raw == ""
}

const project = "shop"

// flyAppOf returns the name of the Fly app of an app in an environment.
func flyAppOf(env, app string) string { return project + "-" + env + "-" + app }

// findApp returns the app and the environment of a Fly app, and whether the case has
// them.
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

// findGroup returns the group with that name, and whether the app has it.
func (a App) findGroup(name string) (Group, bool) {
	for _, g := range a.Groups {
		if g.Name == name {
			return g, true
		}
	}
	return Group{}, false
}

// contentVersion returns the version whose content the app has at the given one.
func (a App) contentVersion(version string) string {
	if a.Still {
		return "v1"
	}
	return cmp.Or(a.Like[version], version)
}

// imageDigest returns the digest of the app's image at a version.
func (a App) imageDigest(version string) string {
	return fmt.Sprintf("sha256:%064x", fmt.Sprintf("%.10s-%.8s", a.Name, a.contentVersion(version)))
}

// versions lists all versions, oldest first.
var versions = []string{"v1", "v2", "v3", "v4"}

// commitOf returns the commit hash of a version.
func commitOf(version string) string { return strings.Repeat(fmt.Sprintf("%x", version), 40)[:40] }

// plainRevision returns the revision of a version, without hostile text.
func plainRevision(version string) release.Revision {
	return release.Revision{Commit: commitOf(version), Tree: commitOf(version), Subject: "version " + version}
}

// versionOf returns the version with that commit hash, or "".
func versionOf(commitHash string) string {
	for _, v := range versions {
		if commitOf(v) == commitHash {
			return v
		}
	}
	return ""
}

// formatReleaseTOML returns the text of the project's release.toml.
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

// formatFlyTOML returns the text of an app's fly.toml at a version.
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

// quoteList returns the names as the elements of a TOML array.
func quoteList(names []string) string {
	var all []string
	for _, n := range names {
		all = append(all, fmt.Sprintf("%q", n))
	}
	return strings.Join(all, ", ")
}

// String returns c as text for the report of a failed case, with one line for each
// part.
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

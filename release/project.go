package release

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Target is one App in one Environment: one Fly app, one fly.toml.
type Target struct {
	App         string `json:"app"`
	Environment string `json:"environment"`
}

func (t Target) String() string { return t.App + "/" + t.Environment }

// A Revision is the git commit that is released.
type Revision struct {
	Commit  string    `json:"commit"`            // 40 hex digits
	Tree    string    `json:"tree"`              // hash of what it contains: equal trees are equal releases
	Subject string    `json:"subject,omitempty"` // first line of its message
	Author  string    `json:"author,omitempty"`
	Time    time.Time `json:"time,omitzero"`
}

// Short is the commit as people write it: its first 12 digits.
func (r Revision) Short() string { return r.Commit[:min(12, len(r.Commit))] }

// An Image is a registry reference with a digest:
// registry.fly.io/shop@sha256:….
type Image string

// Digest is the part that cannot change: sha256:…, or "" if there is none.
func (i Image) Digest() string {
	_, digest, _ := strings.Cut(string(i), "@")
	return digest
}

// In says whether the image is in a repository of that name, in whatever
// registry.
func (i Image) In(repository string) bool {
	name, _, _ := strings.Cut(string(i), "@")
	return strings.HasSuffix(name, "/"+repository)
}

// Images says which image each app of a release runs, by app name.
type Images map[string]Image

// A Duration is a time.Duration that reads "5m0s" in JSON, in histories and in
// TOML.
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// A Project is a repository with a release.toml, as it is at one revision.
// It holds everything that later steps need of the files, so that a release
// never reads them twice.
type Project struct {
	Name         string        `json:"name"`
	Repository   string        `json:"repository,omitempty"` // where workers fetch it, if release.toml says so
	Bound        Repository    `json:"bound,omitzero"`       // the repository that the files are from
	Tests        []Test        `json:"tests,omitempty"`
	Scan         Scan          `json:"scan,omitzero"`
	Apps         []App         `json:"apps"`         // those that are needed first
	Environments []Environment `json:"environments"` // in the order of promotion
	// LeftOut are patterns of files of Git LFS and of submodules that no image and
	// no test needs.
	LeftOut []string `json:"left_out,omitempty"`
}

// A Test must succeed on an exact checkout before anything is changed: a
// command of the worker's shell, or a part of a Dockerfile that BuildKit runs.
type Test struct {
	Name    string   `json:"name"`
	Run     string   `json:"run,omitempty"` // for sh -c
	Timeout Duration `json:"timeout"`
	// BuildTarget is the part of Dockerfile whose instructions are the test.
	BuildTarget string `json:"build_target,omitempty"`
	Dockerfile  string `json:"dockerfile,omitempty"` // path in the repository
}

// String is what is run, for people.
func (t Test) String() string {
	if t.BuildTarget != "" {
		return t.Dockerfile + " up to " + t.BuildTarget
	}
	return t.Run
}

// A Scan looks at every image that was built, before anything runs it.
type Scan struct {
	Run string `json:"run,omitempty"` // for sh -c, with $IMAGE; "": only the built-in look for secrets
	// On are the environments whose images Run looks at; none means all.
	On []string `json:"on,omitempty"`
	// Allow are patterns of paths in images at which secrets are meant to be.
	Allow   []string `json:"allow,omitempty"`
	Timeout Duration `json:"timeout,omitempty"`
}

// An App is what infra/fly/<app> holds.
type App struct {
	Name    string   `json:"name"`
	Go      string   `json:"go,omitempty"`      // main package for the Go builder: ./apps/api
	Base    string   `json:"base,omitempty"`    // image that the Go builder puts the program on
	Needs   []string `json:"needs,omitempty"`   // apps that are rolled out before it
	Secrets []string `json:"secrets,omitempty"` // names that must exist on Fly before a release starts
	Probe   string   `json:"probe,omitempty"`   // path to GET from outside; "": what fly.toml's checks say
	// Unchecked is RefuseUnchecked where it is not rolled out without a check or a
	// probe; "" where it is, with that word beside it.
	Unchecked string `json:"unchecked,omitempty"`
	// Addresses says from where its Fly apps are to be reached: what a first
	// rollout asks Fly for, where an app has no IP address yet.
	Addresses Reach `json:"addresses,omitempty"`
	// BuildSecrets are names of what its Dockerfile may mount, from the
	// environment of workers that were started to give them out.
	BuildSecrets []string `json:"build_secrets,omitempty"`
	// Machines is how many machines of each group a first rollout makes: 1, or by
	// default two or one and a standby.
	Machines int `json:"machines,omitempty"`
}

// A LeftOut is a file or folder of a commit that a checkout does not have as it
// is meant.
type LeftOut struct {
	Path    string
	What    string // what stands there: "a Git LFS pointer"
	Refused bool   // no test and no build is run with it
}

// RefuseUnchecked is the value of App.Unchecked that refuses.
const RefuseUnchecked = "refuse"

// A Reach is from where a Fly app can be reached.
type Reach string

const (
	Public  Reach = ""        // from the internet
	Flycast Reach = "flycast" // through Fly's proxy, from the organization's private network
	Nowhere Reach = "none"    // by no address of its own
)

// An Environment is a rung of promotion.
type Environment struct {
	Name   string   `json:"name"`
	Branch string   `json:"branch,omitempty"` // a push to it releases to this environment
	After  string   `json:"after,omitempty"`  // the environment a tree goes to first
	Bake   Duration `json:"bake,omitempty"`
	Canary Duration `json:"canary,omitempty"` // how long a canary runs alone
	Gate   *Gate    `json:"gate,omitempty"`   // nil: nobody is asked
	Queue  Queue    `json:"queue,omitempty"`  // "" is QueueNewest
	// Irreversible: once a release command has run, a failure asks a person
	// instead of going back: the old code may not fit the new database.
	Irreversible bool         `json:"irreversible,omitempty"`
	Targets      []TargetFile `json:"targets"` // one per app that has a folder for it
}

// A Gate is where a release waits for people.
type Gate struct {
	Approvals int      `json:"approvals"` // different people who must approve; 1 or more
	Timeout   Duration `json:"timeout"`
}

// A TargetFile is a target's fly.toml and what else its folder says.
type TargetFile struct {
	Target     Target   `json:"target"`
	FlyApp     string   `json:"fly_app"`
	Path       string   `json:"path"`                 // infra/fly/api/staging/fly.toml
	FlyToml    string   `json:"fly_toml"`             // its content
	Dockerfile string   `json:"dockerfile,omitempty"` // path in the repository, or ""
	Platform   string   `json:"platform,omitempty"`   // linux/amd64 unless said otherwise
	Build      FlyBuild `json:"build,omitzero"`
	// Files are local files whose content fly.toml puts into machines, by the
	// name it calls them.
	Files map[string][]byte `json:"files,omitempty"`
}

// A FlyBuild is what fly.toml's [build] adds to a Dockerfile, or has instead.
type FlyBuild struct {
	Image      string            `json:"image,omitempty"`
	Target     string            `json:"target,omitempty"`
	Ignorefile string            `json:"ignorefile,omitempty"` // path in the repository
	Args       map[string]string `json:"args,omitempty"`
}

// App returns the app called name.
func (p *Project) App(name string) (App, bool) {
	i := slices.IndexFunc(p.Apps, func(a App) bool { return a.Name == name })
	if i < 0 {
		return App{}, false
	}
	return p.Apps[i], true
}

// Levels returns, by app name, how many rollouts must be over before that of
// the app. An app that needs itself, which config.Load refuses, counts as if it
// did not.
func (p *Project) Levels() map[string]int {
	needs := make(map[string][]string, len(p.Apps))
	for _, a := range p.Apps {
		needs[a.Name] = a.Needs
	}
	levels, under := make(map[string]int, len(p.Apps)), map[string]bool{}
	var level func(name string) int
	level = func(name string) int {
		n, known := levels[name]
		if known {
			return n
		}
		under[name] = true
		for _, need := range needs[name] {
			if !under[need] {
				n = max(n, level(need)+1)
			}
		}
		delete(under, name)
		levels[name] = n
		return n
	}
	for _, a := range p.Apps {
		level(a.Name)
	}
	return levels
}

// Environment returns the environment called name, or an error that names
// those there are.
func (p *Project) Environment(name string) (Environment, error) {
	var names []string
	for _, e := range p.Environments {
		if e.Name == name {
			return e, nil
		}
		names = append(names, e.Name)
	}
	return Environment{}, fmt.Errorf("no environment %q in release.toml; there are: %s", name, strings.Join(names, ", "))
}

// ForBranch returns the environment that a push to branch releases to.
func (p *Project) ForBranch(branch string) (Environment, error) {
	var known []string
	for _, e := range p.Environments {
		if e.Branch == branch && branch != "" {
			return e, nil
		}
		if e.Branch != "" {
			known = append(known, e.Branch+" → "+e.Name)
		}
	}
	return Environment{}, fmt.Errorf("no environment is released from branch %q; release.toml says: %s", branch, strings.Join(known, ", "))
}

// Path is the way to environment to: those it comes after, in order, and
// itself. With to == "" it is the way to the last environment.
func (p *Project) Path(to string) ([]Environment, error) {
	if to == "" && len(p.Environments) > 0 {
		to = p.Environments[len(p.Environments)-1].Name
	}
	var path []Environment
	for name := to; name != ""; {
		e, err := p.Environment(name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(path, func(x Environment) bool { return x.Name == name }) {
			return nil, fmt.Errorf("environment %q comes after itself", name)
		}
		path = append(path, e)
		name = e.After
	}
	slices.Reverse(path)
	return path, nil
}

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

// A Revision is the git commit to release.
type Revision struct {
	Commit  string    `json:"commit"`            // 40 hex digits
	Tree    string    `json:"tree"`              // hash of its content: equal trees are equal releases
	Subject string    `json:"subject,omitempty"` // first line of its message
	Author  string    `json:"author,omitempty"`
	Time    time.Time `json:"time,omitzero"`
}

// Short returns the first 12 digits of the commit.
func (r Revision) Short() string { return r.Commit[:min(12, len(r.Commit))] }

// An Image is a registry reference with a digest:
// registry.fly.io/shop@sha256:….
type Image string

// Digest returns the digest, sha256:…, or "" if there is none.
func (i Image) Digest() string {
	_, digest, _ := strings.Cut(string(i), "@")
	return digest
}

// IsIn reports whether the image is in a repository of that name, in any registry.
func (i Image) IsIn(repository string) bool {
	name, _, _ := strings.Cut(string(i), "@")
	return strings.HasSuffix(name, "/"+repository)
}

// Images maps app names to the images to release.
type Images map[string]Image

// A Duration is a time.Duration that is encoded as "5m0s" in JSON and TOML.
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// A Project is the content of release.toml and of the fly.toml files at one revision.
// It has everything that later steps need, so that a release reads the files once.
type Project struct {
	Name            string        `json:"name"`
	Repository      string        `json:"repository,omitempty"`      // from which workers fetch, if release.toml has it
	BoundRepository Repository    `json:"bound_repository,omitzero"` // the repository that the files were read from
	Tests           []Test        `json:"tests,omitempty"`
	Scan            Scan          `json:"scan,omitzero"`
	Apps            []App         `json:"apps"`         // in the order of needs
	Environments    []Environment `json:"environments"` // in the order of promotion
	// OmittedFiles are patterns of Git LFS files and submodules that no image and no
	// test needs.
	OmittedFiles []string `json:"omitted_files,omitempty"`
}

// A Test must pass on a clean checkout before anything is changed. It is a shell
// command on the worker, or a stage of a Dockerfile that BuildKit builds.
type Test struct {
	Name    string   `json:"name"`
	Run     string   `json:"run,omitempty"` // for sh -c
	Timeout Duration `json:"timeout"`
	// BuildTarget is the stage of Dockerfile that runs the test.
	BuildTarget string `json:"build_target,omitempty"`
	Dockerfile  string `json:"dockerfile,omitempty"` // path in the repository
}

// String returns the command or the stage.
func (t Test) String() string {
	if t.BuildTarget != "" {
		return t.Dockerfile + " up to " + t.BuildTarget
	}
	return t.Run
}

// A Scan is a check of every built image before a machine runs it.
type Scan struct {
	Run string `json:"run,omitempty"` // for sh -c, with $IMAGE; "" for only the built-in search for secrets
	// On are the environments whose images Run scans; none means all.
	On []string `json:"on,omitempty"`
	// Allow are patterns of paths in images where secrets are expected.
	Allow   []string `json:"allow,omitempty"`
	Timeout Duration `json:"timeout,omitempty"`
}

// An App is one deployable program of the project.
type App struct {
	Name    string   `json:"name"`
	Go      string   `json:"go,omitempty"`      // main package for the Go builder: ./apps/api
	Base    string   `json:"base,omitempty"`    // base image of the Go builder
	Needs   []string `json:"needs,omitempty"`   // apps to roll out before it
	Secrets []string `json:"secrets,omitempty"` // names that must exist on Fly when a release starts
	Probe   string   `json:"probe,omitempty"`   // path of a GET request; "" for the first HTTP check of fly.toml
	// Unchecked is RefuseUnchecked if a release without check and probe is
	// refused, or "" if it is allowed with a warning.
	Unchecked string `json:"unchecked,omitempty"`
	// Addresses is the kind of IP address that the first rollout allocates if a
	// Fly app has none.
	Addresses Reach `json:"addresses,omitempty"`
	// BuildSecrets are the names of secrets that its Dockerfile may mount. Their
	// values are in the environment of workers started with permission for them.
	BuildSecrets []string `json:"build_secrets,omitempty"`
	// Machines is the number of machines per group that the first rollout
	// creates: 1, or 0 for Fly's default of two, or one and a standby.
	Machines int `json:"machines,omitempty"`
}

// An OmittedFile is a file or folder of a commit that a checkout does not contain with
// its real content.
type OmittedFile struct {
	Path        string
	Placeholder string // kind of the placeholder: "a Git LFS pointer"
	IsRefused   bool   // tests and builds with it are refused
}

// RefuseUnchecked is the value of App.Unchecked that refuses unchecked targets.
const RefuseUnchecked = "refuse"

// A Reach is the network from which a Fly app is reachable.
type Reach string

const (
	ReachPublic  Reach = ""        // the internet
	ReachFlycast Reach = "flycast" // the private network of the organization, through Fly's proxy
	ReachNone    Reach = "none"    // no address of its own
)

// An Environment is one level of promotion.
type Environment struct {
	Name   string   `json:"name"`
	Branch string   `json:"branch,omitempty"` // a push to it starts a release to this environment
	After  string   `json:"after,omitempty"`  // the environment that a revision passes first
	Bake   Duration `json:"bake,omitempty"`
	Canary Duration `json:"canary,omitempty"` // bake time of a canary
	Gate   *Gate    `json:"gate,omitempty"`   // nil if no approval is needed
	Queue  Queue    `json:"queue,omitempty"`  // "" is QueueNewest
	// Irreversible is true if a failure after a release command leaves the rollout
	// held instead of rolled back, because the old code may not fit the new database.
	Irreversible bool         `json:"irreversible,omitempty"`
	Targets      []TargetFile `json:"targets"` // one per app with a fly.toml for it
}

// A Gate is a point at which a release waits for approvals.
type Gate struct {
	Approvals int      `json:"approvals"` // number of different people who must approve; 1 or more
	Timeout   Duration `json:"timeout"`
}

// A TargetFile is the fly.toml of a target and the other files of its folder.
type TargetFile struct {
	Target     Target   `json:"target"`
	FlyApp     string   `json:"fly_app"`
	Path       string   `json:"path"`                 // infra/fly/api/staging/fly.toml
	FlyToml    string   `json:"fly_toml"`             // its content
	Dockerfile string   `json:"dockerfile,omitempty"` // path in the repository, or ""
	Platform   string   `json:"platform,omitempty"`   // linux/amd64 by default
	Build      FlyBuild `json:"build,omitzero"`
	// Files are the contents of local files that fly.toml copies into machines, by
	// the path in fly.toml.
	Files map[string][]byte `json:"files,omitempty"`
}

// A FlyBuild is the section [build] of fly.toml.
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

// Levels returns by app name how many rollouts must precede that of the app. It
// ignores cycles, which config.Load refuses.
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

// Environment returns the environment called name. The error lists the known ones.
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

// EnvironmentForBranch returns the environment that a push to branch releases to. The
// error lists the known branches.
func (p *Project) EnvironmentForBranch(branch string) (Environment, error) {
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

// Path returns the environments that a release to environment to passes, in order,
// including to. If to is "", it returns the path to the last environment.
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

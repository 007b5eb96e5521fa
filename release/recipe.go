package release

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// DefaultPlatform is the platform of Fly's machines.
const DefaultPlatform = "linux/amd64"

// A Recipe describes how to build an image of a revision. Equal recipes are built
// once. Exactly one of Go, Dockerfile and Image is set.
type Recipe struct {
	Go         string `json:"go,omitempty"`         // main package for the Go builder: ./apps/api
	Dockerfile string `json:"dockerfile,omitempty"` // path in the repository
	Image      string `json:"image,omitempty"`      // an existing reference: host/name:tag

	Base        string            `json:"base,omitempty"`         // base image of the Go builder; "" for an image of three files
	BuildTarget string            `json:"build_target,omitempty"` // stage of the Dockerfile; "" for the last
	Ignorefile  string            `json:"ignorefile,omitempty"`   // path in the repository, in place of .dockerignore
	Args        map[string]string `json:"args,omitempty"`         // build arguments
	// Secrets are the names of secrets that the Dockerfile may mount. Their values are
	// in the environment of workers started with permission for them.
	Secrets  []string `json:"secrets,omitempty"`
	Platform string   `json:"platform,omitempty"` // "" is DefaultPlatform
}

// Hash returns 12 hex digits that identify the recipe.
func (r Recipe) Hash() string {
	doc, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings always marshal
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:6])
}

// Recipe returns the recipe with which BuildKit runs a test that is a Dockerfile stage.
func (t Test) Recipe() Recipe { return Recipe{Dockerfile: t.Dockerfile, BuildTarget: t.BuildTarget} }

// PlatformOrDefault returns the platform of the image.
func (r Recipe) PlatformOrDefault() string { return cmp.Or(r.Platform, DefaultPlatform) }

// String returns the source of the image.
func (r Recipe) String() string {
	s := ""
	switch {
	case r.Image != "":
		return "image " + r.Image
	case r.Go != "":
		s = "go " + r.Go
		if r.Base != "" {
			s += " on " + r.Base
		}
	default:
		s = r.Dockerfile
		if r.BuildTarget != "" {
			s += " up to " + r.BuildTarget
		}
	}
	if r.PlatformOrDefault() != DefaultPlatform {
		s += " for " + r.PlatformOrDefault()
	}
	return s
}

// A Build is one image to build, and the targets that run it.
type Build struct {
	Name    string   `json:"name"` // of the app; "api/production" if its environments differ
	Recipe  Recipe   `json:"recipe"`
	Targets []Target `json:"targets"` // in the order of promotion
	// Repository is the repository to push to, without the host of the registry: the
	// Fly app of its first app in its first environment. A build worker needs no token
	// for later environments.
	Repository string `json:"repository"`
}

// Recipe returns the recipe of the image for target t. In order of precedence it uses
// the image in given for its app, the Go package of the app, the Dockerfile in the
// folder of the target or app, and the image in fly.toml.
func (p *Project) Recipe(t TargetFile, given map[string]string) Recipe {
	r := Recipe{Platform: t.Platform}
	app, _ := p.App(t.Target.App)
	switch image := given[app.Name]; {
	case image != "":
		r.Image = image
	case app.Go != "":
		r.Go = app.Go
		r.Base = app.Base
	case t.Dockerfile == "":
		r.Image = t.Build.Image
	default:
		r.Dockerfile = t.Dockerfile
		r.BuildTarget = t.Build.Target
		r.Args = t.Build.Args
		r.Ignorefile = t.Build.Ignorefile
		r.Secrets = app.BuildSecrets
	}
	return r
}

// Builds returns the images that those apps need on path, each once, in the order of
// apps and of promotion.
func (p *Project) Builds(path []Environment, apps []string, given map[string]string) []Build {
	var builds []Build
	at := map[string]int{} // recipe → index
	for _, app := range p.Apps {
		if !slices.Contains(apps, app.Name) {
			continue
		}
		first := p.firstFlyApp(app.Name)
		var own []int
		for _, env := range path {
			t, ok := env.Target(app.Name)
			if !ok {
				continue
			}
			recipe := p.Recipe(t, given)
			i, known := at[recipe.Hash()]
			if !known {
				i = len(builds)
				at[recipe.Hash()] = i
				builds = append(builds, Build{Name: app.Name, Recipe: recipe, Repository: cmp.Or(first, t.FlyApp)})
				own = append(own, i)
			}
			builds[i].Targets = append(builds[i].Targets, t.Target)
		}
		if len(own) > 1 { // the app's name is ambiguous
			for _, i := range own {
				builds[i].Name = builds[i].Targets[0].String()
			}
		}
	}
	return builds
}

// FindBuild returns the build whose image target t runs.
func FindBuild(builds []Build, t Target) (Build, bool) {
	i := slices.IndexFunc(builds, func(b Build) bool { return slices.Contains(b.Targets, t) })
	if i < 0 {
		return Build{}, false
	}
	return builds[i], true
}

// DescribeUnverified returns a reason for each app of env that would run another image
// than the one verified in the previous environment.
func DescribeUnverified(builds []Build, env Environment) map[string]string {
	why := map[string]string{}
	for _, t := range env.Targets {
		here, ok := FindBuild(builds, t.Target)
		before, had := FindBuild(builds, Target{App: t.Target.App, Environment: env.After})
		if ok && had && here.Recipe.Hash() != before.Recipe.Hash() {
			why[t.Target.App] = fmt.Sprintf("NOT THE IMAGE THAT %s VERIFIED: this one is made of %s, that one of %s",
				env.After, here.Recipe, before.Recipe.describeUnlike(here.Recipe))
		}
	}
	return why
}

// describeUnlike returns r in words, next to other. If both have the same String, it
// names the fields that String leaves out.
func (r Recipe) describeUnlike(other Recipe) string {
	if r.String() == other.String() {
		return "the same with other build arguments, secrets or ignored files"
	}
	return r.String()
}

// Includes reports whether the project's scanner scans b.
func (s Scan) Includes(b Build) bool {
	return s.Run != "" && (len(s.On) == 0 || slices.ContainsFunc(b.Targets, func(t Target) bool { return slices.Contains(s.On, t.Environment) }))
}

// firstFlyApp returns the Fly app of the app in its first environment, or "".
func (p *Project) firstFlyApp(app string) string {
	for _, env := range p.Environments {
		if t, ok := env.Target(app); ok {
			return t.FlyApp
		}
	}
	return ""
}

// Target returns the target of that app in e.
func (e Environment) Target(app string) (TargetFile, bool) {
	i := slices.IndexFunc(e.Targets, func(t TargetFile) bool { return t.Target.App == app })
	if i < 0 {
		return TargetFile{}, false
	}
	return e.Targets[i], true
}

// A Provenance is the build attestation of an image in the registry.
type Provenance struct {
	Builder   string     `json:"builder,omitempty"` // URI of the builder; "" if BuildKit has none
	Type      string     `json:"type"`              // predicate: https://slsa.dev/provenance/v1
	Started   time.Time  `json:"started,omitzero"`
	Finished  time.Time  `json:"finished,omitzero"`
	Materials []Material `json:"materials,omitempty"`
}

// A Material is an input of a build.
type Material struct {
	URI    string `json:"uri"` // pkg:docker/golang@1.26.8-bookworm?platform=linux%2Famd64
	Digest string `json:"digest,omitempty"`
}

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

// DefaultPlatform is what Fly's machines are.
const DefaultPlatform = "linux/amd64"

// A Recipe is how an image is made of a revision. Equal recipes are one image:
// it is built once, whoever runs it. Exactly one of Go, Dockerfile and Image
// says how.
type Recipe struct {
	Go         string `json:"go,omitempty"`         // main package for the Go builder: ./apps/api
	Dockerfile string `json:"dockerfile,omitempty"` // path in the repository
	Image      string `json:"image,omitempty"`      // a reference that exists: host/name:tag

	Base        string            `json:"base,omitempty"`         // reference that the Go builder puts the program on; "" is three files
	BuildTarget string            `json:"build_target,omitempty"` // part of the Dockerfile to end with; "" is its last
	Ignorefile  string            `json:"ignorefile,omitempty"`   // path in the repository, in place of .dockerignore
	Args        map[string]string `json:"args,omitempty"`         // build arguments
	// Secrets are names of what the Dockerfile may mount: their values are in
	// the environment of workers that were started to give them out.
	Secrets  []string `json:"secrets,omitempty"`
	Platform string   `json:"platform,omitempty"` // "" is DefaultPlatform
}

// Hash names the recipe: 12 hex digits.
func (r Recipe) Hash() string {
	doc, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings cannot fail
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:6])
}

// Recipe is what BuildKit carries out for a test that is part of a Dockerfile.
func (t Test) Recipe() Recipe { return Recipe{Dockerfile: t.Dockerfile, BuildTarget: t.BuildTarget} }

// On is the platform that the image is for.
func (r Recipe) On() string { return cmp.Or(r.Platform, DefaultPlatform) }

// String says for people where the image comes from.
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
	if r.On() != DefaultPlatform {
		s += " for " + r.On()
	}
	return s
}

// A Build is one image to be made, and the targets that run it.
type Build struct {
	Name    string   `json:"name"` // of the app; "api/production" where its environments differ
	Recipe  Recipe   `json:"recipe"`
	Targets []Target `json:"targets"` // in the order of promotion
	// Repository is where the image is pushed, without the registry's host: the
	// Fly app of the first environment in which its first app lives. A worker
	// that builds needs no token for the later ones.
	Repository string `json:"repository"`
}

// Recipe is how target t comes by its image. An image named for its app in
// given, by whoever starts the release, wins; then the app's Go package; then
// fly.toml's image, unless there is a Dockerfile in the target's or the app's
// folder; then the Dockerfile.
func (p *Project) Recipe(t TargetFile, given map[string]string) Recipe {
	r := Recipe{Platform: t.Platform}
	app, _ := p.App(t.Target.App)
	switch image := given[app.Name]; {
	case image != "":
		r.Image = image
	case app.Go != "":
		r.Go, r.Base = app.Go, app.Base
	case t.Dockerfile == "":
		r.Image = t.Build.Image
	default:
		r.Dockerfile, r.BuildTarget, r.Args, r.Ignorefile, r.Secrets = t.Dockerfile, t.Build.Target, t.Build.Args, t.Build.Ignorefile, app.BuildSecrets
	}
	return r
}

// Builds are the images that those apps need on that path, each once, in the
// order of apps and of promotion.
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
		if len(own) > 1 { // it takes more than the app's name to tell them apart
			for _, i := range own {
				builds[i].Name = builds[i].Targets[0].String()
			}
		}
	}
	return builds
}

// Of returns the build whose image target t runs.
func Of(builds []Build, t Target) (Build, bool) {
	i := slices.IndexFunc(builds, func(b Build) bool { return slices.Contains(b.Targets, t) })
	if i < 0 {
		return Build{}, false
	}
	return builds[i], true
}

// Unverified says, by app, why env is to run another artifact than the one that
// the environment before it has verified. Apps that run the same are not in it.
func Unverified(builds []Build, env Environment) map[string]string {
	why := map[string]string{}
	for _, t := range env.Targets {
		here, ok := Of(builds, t.Target)
		before, had := Of(builds, Target{App: t.Target.App, Environment: env.After})
		if ok && had && here.Recipe.Hash() != before.Recipe.Hash() {
			why[t.Target.App] = fmt.Sprintf("NOT THE IMAGE THAT %s VERIFIED: this one is made of %s, that one of %s",
				env.After, here.Recipe, before.Recipe.describeUnlike(here.Recipe))
		}
	}
	return why
}

// describeUnlike is r for people, who have just read of other. Two that read the same
// differ in what String leaves out.
func (r Recipe) describeUnlike(other Recipe) string {
	if r.String() == other.String() {
		return "the same with other build arguments, secrets or ignored files"
	}
	return r.String()
}

// Due says whether the project's scanner is to look at b.
func (s Scan) Due(b Build) bool {
	return s.Run != "" && (len(s.On) == 0 || slices.ContainsFunc(b.Targets, func(t Target) bool { return slices.Contains(s.On, t.Environment) }))
}

// firstFlyApp is the Fly app of the first environment that app lives in.
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

// A Provenance is where an image comes from, as its builder attests in the
// registry.
type Provenance struct {
	Builder   string     `json:"builder,omitempty"` // URI of who built; "" where BuildKit has none
	Type      string     `json:"type"`              // predicate: https://slsa.dev/provenance/v1
	Started   time.Time  `json:"started,omitzero"`
	Finished  time.Time  `json:"finished,omitzero"`
	Materials []Material `json:"materials,omitempty"`
}

// A Material is something that an image was built from.
type Material struct {
	URI    string `json:"uri"` // pkg:docker/golang@1.26.8-bookworm?platform=linux%2Famd64
	Digest string `json:"digest,omitempty"`
}

package release_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

// shop has two apps with Dockerfiles in two environments.
func shop(edit func(*release.Project)) *release.Project {
	p := &release.Project{
		Name: "shop",
		Apps: []release.App{{Name: "api"}, {Name: "web"}},
		Environments: []release.Environment{
			{Name: "staging"}, {Name: "production", After: "staging"},
		},
	}
	for i, env := range p.Environments {
		for _, app := range p.Apps {
			p.Environments[i].Targets = append(p.Environments[i].Targets, release.TargetFile{
				Target:     release.Target{App: app.Name, Environment: env.Name},
				FlyApp:     "shop-" + env.Name + "-" + app.Name,
				Dockerfile: "infra/fly/" + app.Name + "/Dockerfile",
			})
		}
	}
	if edit != nil {
		edit(p)
	}
	return p
}

// formatBuilds returns a line per build: name, recipe, repository, targets.
func formatBuilds(builds []release.Build) string {
	var lines []string
	for _, b := range builds {
		lines = append(lines, fmt.Sprintf("%s: %s → %s for %v", b.Name, b.Recipe, b.Repository, b.Targets))
	}
	return strings.Join(lines, "\n")
}

func builds(p *release.Project, given map[string]string) []release.Build {
	return p.Builds(p.Environments, []string{"api", "web"}, given)
}

func TestBuilds_EqualRecipes(t *testing.T) {
	production := func(p *release.Project) *release.TargetFile { return &p.Environments[1].Targets[0] }
	for name, test := range map[string]struct {
		edit  func(*release.Project)
		given map[string]string
		want  string
	}{
		"one Dockerfile for both environments": {want: `api: infra/fly/api/Dockerfile → shop-staging-api for [api/staging api/production]
web: infra/fly/web/Dockerfile → shop-staging-web for [web/staging web/production]`},
		"production has its own Dockerfile": {
			edit: func(p *release.Project) { production(p).Dockerfile = "infra/fly/api/production/Dockerfile" },
			want: `api/staging: infra/fly/api/Dockerfile → shop-staging-api for [api/staging]
api/production: infra/fly/api/production/Dockerfile → shop-staging-api for [api/production]
web: infra/fly/web/Dockerfile → shop-staging-web for [web/staging web/production]`,
		},
		"production has other build arguments": {
			edit: func(p *release.Project) { production(p).Build.Args = map[string]string{"MODE": "lean"} },
			want: `api/staging: infra/fly/api/Dockerfile → shop-staging-api for [api/staging]
api/production: infra/fly/api/Dockerfile → shop-staging-api for [api/production]
web: infra/fly/web/Dockerfile → shop-staging-web for [web/staging web/production]`,
		},
		"two apps share a Dockerfile": {
			edit: func(p *release.Project) {
				for i := range p.Environments {
					p.Environments[i].Targets[1].Dockerfile = "infra/fly/api/Dockerfile"
				}
			},
			want: `api: infra/fly/api/Dockerfile → shop-staging-api for [api/staging api/production web/staging web/production]`,
		},
		"the Go builder precedes a Dockerfile, and a given image precedes both": {
			edit:  func(p *release.Project) { p.Apps[0].Go, p.Apps[0].Base = "./api", "example.com/base:1" },
			given: map[string]string{"web": "example.com/web:7"},
			want: `api: go ./api on example.com/base:1 → shop-staging-api for [api/staging api/production]
web: image example.com/web:7 → shop-staging-web for [web/staging web/production]`,
		},
		"the image of fly.toml is used without a Dockerfile": {
			edit: func(p *release.Project) {
				for i := range p.Environments {
					p.Environments[i].Targets[1].Dockerfile = ""
					p.Environments[i].Targets[1].Build.Image = "example.com/web:7"
					p.Environments[i].Targets[0].Build.Image = "example.com/api:7"
				}
			},
			want: `api: infra/fly/api/Dockerfile → shop-staging-api for [api/staging api/production]
web: image example.com/web:7 → shop-staging-web for [web/staging web/production]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := formatBuilds(builds(shop(test.edit), test.given)); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestBuilds_SelectedApps(t *testing.T) {
	p := shop(func(p *release.Project) {
		p.Environments[1].Targets[0].Dockerfile = "infra/fly/api/production/Dockerfile"
	})
	got := formatBuilds(p.Builds(p.Environments[:1], []string{"api"}, nil))
	if want := "api: infra/fly/api/Dockerfile → shop-staging-api for [api/staging]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(p.Builds(p.Environments, nil, nil)) != 0 {
		t.Error("Builds returned builds for no app")
	}
}

// Only an image that was not verified in the previous environment is reported.
func TestDescribeUnverified_OtherRecipe(t *testing.T) {
	p := shop(func(p *release.Project) {
		p.Environments[1].Targets[0].Dockerfile = "infra/fly/api/production/Dockerfile"
		p.Environments[1].Targets[1].Build.Args = map[string]string{"MODE": "lean"}
	})
	got := release.DescribeUnverified(builds(p, nil), p.Environments[1])
	if want := "NOT THE IMAGE THAT staging VERIFIED: this one is made of infra/fly/api/production/Dockerfile, that one of infra/fly/api/Dockerfile"; got["api"] != want {
		t.Errorf("api: %s", got["api"])
	}
	if want := "NOT THE IMAGE THAT staging VERIFIED: this one is made of infra/fly/web/Dockerfile, that one of the same with other build arguments, secrets or ignored files"; got["web"] != want {
		t.Errorf("web: %s", got["web"])
	}
	if same := release.DescribeUnverified(builds(shop(nil), nil), p.Environments[1]); len(same) > 0 {
		t.Errorf("equal images for both environments: %v", same)
	}
	if first := release.DescribeUnverified(builds(p, nil), p.Environments[0]); len(first) > 0 {
		t.Errorf("staging has no previous environment: %v", first)
	}
}

// The tags in the registry contain the hash of the recipe. It must be stable, and
// different for different recipes.
func TestRecipe_Hash(t *testing.T) {
	r := release.Recipe{Dockerfile: "Dockerfile"}
	seen := []string{r.Hash()}
	if seen[0] != "c3abbd0e8c97" {
		t.Errorf("the hash changed to %s: every image would be built again", seen[0])
	}
	for _, other := range []release.Recipe{
		{Dockerfile: "other/Dockerfile"}, {Dockerfile: "Dockerfile", BuildTarget: "x"}, {Dockerfile: "Dockerfile", Ignorefile: "x"},
		{Dockerfile: "Dockerfile", Args: map[string]string{"A": "1"}}, {Dockerfile: "Dockerfile", Args: map[string]string{"A": "2"}},
		{Dockerfile: "Dockerfile", Secrets: []string{"X"}}, {Dockerfile: "Dockerfile", Platform: "linux/arm64"},
		{Go: "./api"}, {Go: "./api", Base: "x"}, {Image: "x"},
	} {
		if slices.Contains(seen, other.Hash()) {
			t.Errorf("%+v has the hash of another recipe", other)
		}
		seen = append(seen, other.Hash())
	}
}

func TestScan_Includes(t *testing.T) {
	p := shop(func(p *release.Project) {
		p.Environments[1].Targets[0].Dockerfile = "infra/fly/api/production/Dockerfile"
	})
	for name, test := range map[string]struct {
		scan release.Scan
		want string
	}{
		"no scan command":                     {release.Scan{}, ""},
		"a scan command for all environments": {release.Scan{Run: "look"}, "api/staging api/production web"},
		"a scan command for production":       {release.Scan{Run: "look", On: []string{"production"}}, "api/production web"},
	} {
		var due []string
		for _, b := range builds(p, nil) {
			if test.scan.Includes(b) {
				due = append(due, b.Name)
			}
		}
		if got := strings.Join(due, " "); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

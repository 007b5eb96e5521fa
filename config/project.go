package config

import (
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/microbima/release/fly/flytoml/tomldoc"
	"github.com/microbima/release/release"
)

// Defaults of release.toml.
const (
	testTimeout = 15 * time.Minute
	gateTimeout = 24 * time.Hour
	approvals   = 1
)

func (l *loader) readProject(t *tomldoc.Table) {
	p := &l.project
	if p.Name = t.String("project"); !t.Has("project") {
		t.Errorf("project", "missing; write project = \"…\", the name that releases go by")
	} else {
		l.name(t, "project", p.Name)
	}
	p.Repository = t.String("repository")
	if strings.HasPrefix(p.Repository, "-") {
		t.Errorf("repository", "%.60q is not the address of a repository", p.Repository)
	}
	u, err := url.Parse(p.Repository)
	switch {
	case err != nil && strings.Contains(p.Repository, "://"): // git@host:path is none, and good
		t.Errorf("repository", "it is not the address of a repository")
	case err == nil && u.User != nil:
		if _, secret := u.User.Password(); secret || u.Scheme != "ssh" {
			t.Errorf("repository", "there is a user or a password in the address, which every history would keep; give it to the git of the workers")
		}
	}
	l.readTests(t)
	l.readApps(t)
	l.readEnvironments(t)
}

// name checks a name that was written at key. A value of the wrong type was
// reported when it was read.
func (l *loader) name(t *tomldoc.Table, key, name string) {
	if v, _ := t.Any(key); v != "" && name == "" {
		return
	}
	if !validName(name) {
		t.Errorf(key, "%.80q can't be a name; %s", name, nameRule)
	}
}

// readTests reads [test], and [test.<name>] where there are several.
func (l *loader) readTests(root *tomldoc.Table) {
	t := root.Table("test")
	if t == nil {
		return
	}
	if t.Has("run") {
		l.readTest(t, "test")
	} else if t.Has("timeout") {
		t.Errorf("run", "missing; write the command that tests a checkout")
	}
	for _, name := range t.Subtables() {
		switch {
		case name == "test" && t.Has("run"):
			t.Errorf(name, "is the name of [test] itself; call it something else")
			t.Table(name).Ignore()
		case validName(name):
			l.readTest(t.Table(name), name)
		default:
			t.Errorf(name, "%.80q can't be a name; %s", name, nameRule)
			t.Table(name).Ignore()
		}
	}
	if len(t.Subtables()) == 0 && !t.Has("run") && !t.Has("timeout") {
		t.Errorf("run", "missing; write the command that tests a checkout")
	}
}

func (l *loader) readTest(t *tomldoc.Table, name string) {
	test := release.Test{Name: name, Run: t.String("run"), Timeout: release.Duration(testTimeout)}
	if v, ok := t.Any("run"); !ok || v == "" {
		t.Errorf("run", "missing; write the command that tests a checkout")
	}
	positive(t, "timeout", &test.Timeout)
	l.project.Tests = append(l.project.Tests, test)
}

func (l *loader) readApps(root *tomldoc.Table) {
	l.apps = map[string]*release.App{}
	t := root.Table("apps")
	if t == nil {
		return
	}
	for _, name := range t.Keys() {
		l.name(t, name, name)
		a := t.Table(name)
		if a == nil {
			continue
		}
		app := &release.App{Name: name, Go: a.String("go"), Needs: a.Strings("needs"), Secrets: a.Strings("secrets"), Probe: a.String("probe")}
		l.apps[name] = app
		l.checkGo(a, app.Go)
		for _, secret := range app.Secrets {
			if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(secret) {
				a.Errorf("secrets", "%.80q can't be the name of a secret", secret)
			}
		}
		switch reach := a.String("addresses"); reach {
		case "", "public":
		case string(release.Flycast), string(release.Nowhere):
			app.Addresses = release.Reach(reach)
		default:
			a.Errorf("addresses", "%.40q is neither \"public\" (the default), \"flycast\" (private) nor \"none\": which IP addresses a first rollout asks for", reach)
		}
		if app.Probe != "" && !strings.HasPrefix(app.Probe, "/") {
			a.Errorf("probe", "%.80q is not a path; write what to GET, beginning with /", app.Probe)
		}
	}
}

// checkGo sees that there is a folder for the Go builder, inside the
// repository.
func (l *loader) checkGo(t *tomldoc.Table, pkg string) {
	if !t.Has("go") || pkg == "" {
		if v, ok := t.Any("go"); ok && v == "" {
			t.Errorf("go", "empty; write the folder of the main package, like \"./apps/api\", or leave it out")
		}
		return
	}
	dir := path.Clean(pkg)
	if !fs.ValidPath(dir) {
		t.Errorf("go", "%.80q is outside of the repository; write a folder in it, like \"./apps/api\"", pkg)
		return
	}
	if info, err := fs.Stat(l.fsys, dir); err != nil || !info.IsDir() {
		t.Errorf("go", "there is no folder %s in the repository", dir)
	}
}

func (l *loader) readEnvironments(root *tomldoc.Table) {
	l.environments = map[string]*release.Environment{}
	branches := map[string]string{}
	t := root.Table("environments")
	if t == nil {
		return
	}
	for _, name := range t.Keys() {
		l.name(t, name, name)
		e := t.Table(name)
		if e == nil {
			continue
		}
		env := &release.Environment{Name: name, Branch: e.String("branch"), After: e.String("after")}
		l.environments[name] = env
		if other, twice := branches[env.Branch]; twice && env.Branch != "" {
			e.Errorf("branch", "a push to %q already releases to %s; a branch has one environment", env.Branch, other)
		}
		branches[env.Branch] = name
		nonNegative(e, "bake", &env.Bake)
		nonNegative(e, "canary", &env.Canary)
		switch migrations := e.String("migrations"); migrations {
		case "", "reversible":
		case "irreversible":
			env.Irreversible = true
		default:
			e.Errorf("migrations", "%.40q is neither \"reversible\" (the default: a failure rolls back) nor \"irreversible\" (once a release command ran, a failure asks a person)", migrations)
		}
		env.Gate = readGate(e)
	}
}

func readGate(e *tomldoc.Table) *release.Gate {
	t := e.Table("gate")
	if t == nil {
		return nil
	}
	gate := &release.Gate{Approvals: approvals, Timeout: release.Duration(gateTimeout)}
	if n := t.Int("approvals"); n != nil {
		if gate.Approvals = *n; *n < 1 {
			t.Errorf("approvals", "%d people would approve everything; want 1 or more, or leave out the gate", *n)
		}
	}
	positive(t, "timeout", &gate.Timeout)
	return gate
}

func nonNegative(t *tomldoc.Table, key string, d *release.Duration) {
	if v := t.Duration(key, 0); v != nil {
		*d = release.Duration(*v)
	}
}

func positive(t *tomldoc.Table, key string, d *release.Duration) {
	if v := t.Duration(key, 0); v != nil {
		if *d = release.Duration(*v); *v == 0 {
			t.Errorf(key, "no time at all; want more than 0s")
		}
	}
}

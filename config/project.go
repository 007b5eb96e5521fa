package config

import (
	"cmp"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/microbima/release/fly/flytoml/tomldoc"
	"github.com/microbima/release/release"
)

// Defaults of release.toml.
const (
	testTimeout = 15 * time.Minute
	scanTimeout = 10 * time.Minute
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
	l.readLeftOut(t)
	l.readTests(t)
	l.readApps(t)
	l.readEnvironments(t)
	l.readScan(t)
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
	itself := slices.ContainsFunc(testKeys, t.Has)
	if itself || len(t.Subtables()) == 0 {
		l.readTest(t, "test")
	}
	for _, name := range t.Subtables() {
		switch {
		case name == "test" && itself:
			t.Errorf(name, "is the name of [test] itself; call it something else")
			t.Table(name).Ignore()
		case validName(name):
			l.readTest(t.Table(name), name)
		default:
			t.Errorf(name, "%.80q can't be a name; %s", name, nameRule)
			t.Table(name).Ignore()
		}
	}
}

// testKeys are what a test says of itself.
var testKeys = []string{"run", "target", "dockerfile", "timeout"}

// readTest reads a test that is a command, or part of a Dockerfile.
func (l *loader) readTest(t *tomldoc.Table, name string) {
	test := release.Test{
		Name: name, Run: t.String("run"), BuildTarget: t.String("target"), Dockerfile: t.String("dockerfile"), Timeout: release.Duration(testTimeout),
	}
	positive(t, "timeout", &test.Timeout)
	run, runs := t.Any("run")
	target, targets := t.Any("target")
	switch {
	case runs && targets:
		t.Errorf("target", "there is a run, too; a test is either a command or part of a Dockerfile")
	case targets && target == "":
		t.Errorf("target", "empty; write the name behind AS in the Dockerfile's FROM … AS …")
	case targets:
		l.findTestfile(t, &test)
	case !runs || run == "":
		t.Errorf("run", "missing; write the command that tests a checkout, or target = \"…\", the part of a Dockerfile that does")
	case test.Dockerfile != "":
		t.Errorf("dockerfile", "a command has no use for it; write target = \"…\" in place of run")
	}
	l.project.Tests = append(l.project.Tests, test)
}

// findTestfile finds the Dockerfile that a test is part of: that of the
// repository, unless it names another one.
func (l *loader) findTestfile(t *tomldoc.Table, test *release.Test) {
	test.Dockerfile = path.Clean(cmp.Or(test.Dockerfile, "Dockerfile"))
	if l.exists(test.Dockerfile) {
		return
	}
	if t.Has("dockerfile") {
		t.Errorf("dockerfile", "there is no file %s in the repository", test.Dockerfile)
		return
	}
	t.Errorf("target", "there is no Dockerfile at the root of the repository; write dockerfile = \"…\", the path of the one that it is part of")
}

// readScan reads [scan].
func (l *loader) readScan(root *tomldoc.Table) {
	t := root.Table("scan")
	if t == nil {
		return
	}
	scan := release.Scan{Run: t.String("run"), On: scanned(t), Allow: t.Strings("allow")}
	if v, ok := t.Any("run"); ok && v == "" {
		t.Errorf("run", "empty; write the command that looks at $IMAGE, or leave it out")
	}
	for _, pattern := range scan.Allow {
		if !doublestar.ValidatePattern(pattern) {
			t.Errorf("allow", "%.80q is not a pattern of paths, like \"usr/lib/**/test/*.pem\"", pattern)
		}
	}
	if scan.Run != "" {
		scan.Timeout = release.Duration(scanTimeout)
	} else if t.Has("timeout") || t.Has("on") {
		t.Errorf("run", "missing; write the command that looks at $IMAGE")
	}
	positive(t, "timeout", &scan.Timeout)
	l.project.Scan, l.scan = scan, t
}

// scanned reads the environments whose images are scanned: one, or a list.
func scanned(t *tomldoc.Table) []string {
	if v, ok := t.Any("on"); ok {
		if name, one := v.(string); one {
			return []string{name}
		}
	}
	return t.Strings("on")
}

// checkScan sees that the environments of [scan] exist: some are only folders.
func (l *loader) checkScan() {
	for _, name := range l.project.Scan.On {
		if l.environments[name] == nil {
			l.scan.Errorf("on", "there is no environment %q; there are: %s", name, strings.Join(slices.Sorted(maps.Keys(l.environments)), ", "))
		}
	}
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
		app := &release.App{
			Name: name, Go: a.String("go"), Base: a.String("base"), Needs: a.Strings("needs"), Probe: a.String("probe"),
			Secrets: secretNames(a, "secrets"), BuildSecrets: secretNames(a, "build_secrets"), Machines: readMachines(a),
		}
		l.readOnly(name, a)
		l.apps[name] = app
		l.checkGo(a, app.Go)
		switch {
		case app.Base != "" && app.Go == "":
			a.Errorf("base", "it is what the Go builder puts a program on, and there is no go here; a Dockerfile says its own FROM")
		case len(app.BuildSecrets) > 0 && app.Go != "":
			a.Errorf("build_secrets", "a Dockerfile mounts them, and this app is built by go = %q", app.Go)
		}
		switch reach := a.String("addresses"); reach {
		case "", "public":
		case string(release.Flycast), string(release.Nowhere):
			app.Addresses = release.Reach(reach)
		default:
			a.Errorf("addresses", "%.40q is neither \"public\" (the default), \"flycast\" (private) nor \"none\": which IP addresses a first rollout asks for", reach)
		}
		switch app.Unchecked = a.String("unchecked"); app.Unchecked {
		case "", "allow":
			app.Unchecked = ""
		case release.RefuseUnchecked:
		default:
			a.Errorf("unchecked", "must be one of \"allow\" (the default: it is promoted as unchecked) and \"refuse\", got %.40q: what becomes of it where nothing checks it", app.Unchecked)
		}
		if app.Probe != "" && app.Addresses != release.Public {
			a.Errorf("probe", "has no effect with addresses = %q: a probe is sent to the public address; write a check in fly.toml", app.Addresses)
		}
		if app.Probe != "" && !strings.HasPrefix(app.Probe, "/") {
			a.Errorf("probe", "%.80q is not a path; write what to GET, beginning with /", app.Probe)
		}
	}
}

var secretName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// secretNames reads a list of names of secrets.
func secretNames(t *tomldoc.Table, key string) []string {
	names := t.Strings(key)
	for _, name := range names {
		if !secretName.MatchString(name) {
			t.Errorf(key, "%.80q can't be the name of a secret", name)
		}
	}
	return names
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
		env.Queue = readQueue(e)
	}
}

func readQueue(e *tomldoc.Table) release.Queue {
	queue := release.Queue(e.String("queue"))
	switch queue {
	case "", release.QueueNewest, release.QueueEach:
	default:
		e.Errorf("queue", "%.40q must be \"newest\" (the default: a waiting release gives way to a newer one) or \"each\"", queue)
	}
	return queue
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

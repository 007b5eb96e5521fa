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
		t.Errorf("project", "missing; write project = \"…\", the name of the project")
	} else {
		l.checkName(t, "project", p.Name)
	}
	p.Repository = t.String("repository")
	if strings.HasPrefix(p.Repository, "-") {
		t.Errorf("repository", "%.60q is not the address of a repository", p.Repository)
	}
	u, err := url.Parse(p.Repository)
	switch {
	case err != nil && strings.Contains(p.Repository, "://"): // git@host:path is valid and no URL
		t.Errorf("repository", "not the address of a repository")
	case err == nil && u.User != nil:
		if _, hasPassword := u.User.Password(); hasPassword || u.Scheme != "ssh" {
			t.Errorf("repository", "must not contain a user or a password: workflow histories would store it; configure it in the git of the workers")
		}
	}
	l.readLeftOut(t)
	l.readTests(t)
	l.readApps(t)
	l.readEnvironments(t)
	l.readScan(t)
}

// checkName reports an invalid name at key. A value of the wrong type was already
// reported by the reader.
func (l *loader) checkName(t *tomldoc.Table, key, name string) {
	if v, _ := t.Any(key); v != "" && name == "" {
		return
	}
	if !validName(name) {
		t.Errorf(key, "%.80q is not a valid name; %s", name, nameRule)
	}
}

// readTests reads [test], and each [test.<name>].
func (l *loader) readTests(root *tomldoc.Table) {
	t := root.Table("test")
	if t == nil {
		return
	}
	hasTest := slices.ContainsFunc(testKeys, t.Has)
	if hasTest || len(t.Subtables()) == 0 {
		l.readTest(t, "test")
	}
	for _, name := range t.Subtables() {
		switch {
		case name == "test" && hasTest:
			t.Errorf(name, "is the name of [test] itself; use another name")
			t.Table(name).Ignore()
		case validName(name):
			l.readTest(t.Table(name), name)
		default:
			t.Errorf(name, "%.80q is not a valid name; %s", name, nameRule)
			t.Table(name).Ignore()
		}
	}
}

// testKeys are the keys of a test.
var testKeys = []string{"run", "target", "dockerfile", "timeout"}

// readTest reads a test: a command, or a target of a Dockerfile.
func (l *loader) readTest(t *tomldoc.Table, name string) {
	test := release.Test{
		Name: name, Run: t.String("run"), BuildTarget: t.String("target"), Dockerfile: t.String("dockerfile"), Timeout: release.Duration(testTimeout),
	}
	positive(t, "timeout", &test.Timeout)
	run, hasRun := t.Any("run")
	target, hasTarget := t.Any("target")
	switch {
	case hasRun && hasTarget:
		t.Errorf("target", "cannot be combined with run; a test is either a command or a target of a Dockerfile")
	case hasTarget && target == "":
		t.Errorf("target", "empty; write the name after AS in a FROM line of the Dockerfile")
	case hasTarget:
		l.findTestDockerfile(t, &test)
	case !hasRun || run == "":
		t.Errorf("run", "missing; write the command that tests a checkout, or target = \"…\", a target of a Dockerfile that runs the tests")
	case test.Dockerfile != "":
		t.Errorf("dockerfile", "has no effect with run; write target = \"…\" instead of run")
	}
	l.project.Tests = append(l.project.Tests, test)
}

// findTestDockerfile sets the Dockerfile of a test: the one that it names, else the one
// at the root of the repository.
func (l *loader) findTestDockerfile(t *tomldoc.Table, test *release.Test) {
	test.Dockerfile = path.Clean(cmp.Or(test.Dockerfile, "Dockerfile"))
	if l.exists(test.Dockerfile) {
		return
	}
	if t.Has("dockerfile") {
		t.Errorf("dockerfile", "there is no file %s in the repository", test.Dockerfile)
		return
	}
	t.Errorf("target", "there is no Dockerfile at the root of the repository; write dockerfile = \"…\", the path of the Dockerfile")
}

// readScan reads [scan].
func (l *loader) readScan(root *tomldoc.Table) {
	t := root.Table("scan")
	if t == nil {
		return
	}
	scan := release.Scan{Run: t.String("run"), On: scanEnvironments(t), Allow: t.Strings("allow")}
	if v, ok := t.Any("run"); ok && v == "" {
		t.Errorf("run", "empty; write the command that scans $IMAGE, or remove it")
	}
	for _, pattern := range scan.Allow {
		if !doublestar.ValidatePattern(pattern) {
			t.Errorf("allow", "%.80q is not a pattern of paths, like \"usr/lib/**/test/*.pem\"", pattern)
		}
	}
	if scan.Run != "" {
		scan.Timeout = release.Duration(scanTimeout)
	} else if t.Has("timeout") || t.Has("on") {
		t.Errorf("run", "missing; write the command that scans $IMAGE")
	}
	positive(t, "timeout", &scan.Timeout)
	l.project.Scan, l.scan = scan, t
}

// scanEnvironments reads the environments whose images are scanned: a name or a list.
func scanEnvironments(t *tomldoc.Table) []string {
	if v, ok := t.Any("on"); ok {
		if name, ok := v.(string); ok {
			return []string{name}
		}
	}
	return t.Strings("on")
}

// checkScan reports names in [scan] that are not environments. It runs after
// readFolders, which adds environments.
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
		l.checkName(t, name, name)
		a := t.Table(name)
		if a == nil {
			continue
		}
		l.readOnly(name, a)
		l.apps[name] = l.readApp(name, a)
	}
}

// readApp reads [apps.<name>].
func (l *loader) readApp(name string, t *tomldoc.Table) *release.App {
	app := &release.App{
		Name: name, Go: t.String("go"), Base: t.String("base"), Needs: t.Strings("needs"), Probe: t.String("probe"),
		Secrets: secretNames(t, "secrets"), BuildSecrets: secretNames(t, "build_secrets"), Machines: readMachines(t),
	}
	l.checkGo(t, app.Go)
	switch {
	case app.Base != "" && app.Go == "":
		t.Errorf("base", "has no effect without go: it is the base image of the Go builder; a Dockerfile has its own FROM")
	case len(app.BuildSecrets) > 0 && app.Go != "":
		t.Errorf("build_secrets", "has no effect with go = %q: only a Dockerfile mounts build secrets", app.Go)
	}
	switch reach := t.String("addresses"); reach {
	case "", "public":
	case string(release.ReachFlycast), string(release.ReachNone):
		app.Addresses = release.Reach(reach)
	default:
		t.Errorf("addresses", "must be \"public\" (the default), \"flycast\" (private) or \"none\", got %.40q; it selects the IP addresses of a first rollout", reach)
	}
	switch unchecked := t.String("unchecked"); unchecked {
	case "", "allow":
	case release.RefuseUnchecked:
		app.Unchecked = unchecked
	default:
		t.Errorf("unchecked", "must be \"allow\" (the default: promoted as unchecked) or \"refuse\", got %.40q; it applies if nothing checks the app", unchecked)
	}
	checkProbe(t, app)
	return app
}

// checkProbe reports a probe that has no effect or is not a path.
func checkProbe(t *tomldoc.Table, app *release.App) {
	if app.Probe != "" && app.Addresses != release.ReachPublic {
		t.Errorf("probe", "has no effect with addresses = %q: a probe is sent to the public address; write a check in fly.toml", app.Addresses)
	}
	if app.Probe != "" && !strings.HasPrefix(app.Probe, "/") {
		t.Errorf("probe", "must be a path that begins with /, got %.80q", app.Probe)
	}
}

var secretName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// secretNames reads a list of names of secrets and reports invalid ones.
func secretNames(t *tomldoc.Table, key string) []string {
	names := t.Strings(key)
	for _, name := range names {
		if !secretName.MatchString(name) {
			t.Errorf(key, "%.80q is not a valid name of a secret", name)
		}
	}
	return names
}

// checkGo reports a folder of the Go builder that is missing or outside of the
// repository.
func (l *loader) checkGo(t *tomldoc.Table, pkg string) {
	if !t.Has("go") || pkg == "" {
		if v, ok := t.Any("go"); ok && v == "" {
			t.Errorf("go", "empty; write the folder of the main package, like \"./apps/api\", or remove it")
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
		l.checkName(t, name, name)
		e := t.Table(name)
		if e == nil {
			continue
		}
		env := &release.Environment{Name: name, Branch: e.String("branch"), After: e.String("after")}
		l.environments[name] = env
		if other, twice := branches[env.Branch]; twice && env.Branch != "" {
			e.Errorf("branch", "a push to %q already releases to %s; each environment needs its own branch", env.Branch, other)
		}
		branches[env.Branch] = name
		nonNegative(e, "bake", &env.Bake)
		nonNegative(e, "canary", &env.Canary)
		switch migrations := e.String("migrations"); migrations {
		case "", "reversible":
		case "irreversible":
			env.Irreversible = true
		default:
			e.Errorf("migrations", "must be \"reversible\" (the default: a failure rolls back) or \"irreversible\" (after a release command ran, a failure holds the rollout), got %.40q", migrations)
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
		e.Errorf("queue", "must be \"newest\" (the default: a waiting release gives way to a newer one) or \"each\", got %.40q", queue)
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
			t.Errorf("approvals", "must be 1 or more, got %d; for no approvals, remove the gate", *n)
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
			t.Errorf(key, "must be more than 0s")
		}
	}
}

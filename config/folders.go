package config

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/microbima/release/fly/flytoml"
	"github.com/microbima/release/release"
)

// readFolders finds the apps and environments that have a folder but are not
// in release.toml: a folder is all that a new one needs.
func (l *loader) readFolders() {
	for _, app := range l.folders(Dir) {
		environments := 0
		for _, env := range l.folders(path.Join(Dir, app)) {
			if !l.exists(flyTomlOf(app, env)) {
				continue
			}
			environments++
			if l.environments[env] == nil {
				l.folderName(path.Join(Dir, app, env), env)
				l.environments[env] = &release.Environment{Name: env}
				l.warnings = append(l.warnings, &Error{
					File: flyTomlOf(app, env),
					Msg:  "release.toml has no [environments." + env + "]: no branch leads there, and nobody is asked",
				})
			}
		}
		if l.apps[app] == nil && (environments > 0 || l.exists(path.Join(Dir, app, "Dockerfile"))) {
			l.folderName(path.Join(Dir, app), app)
			l.apps[app] = &release.App{Name: app}
		}
	}
	if len(l.apps) == 0 {
		l.add(Dir, "has no apps; each has a folder %s/<app>/<environment> with a fly.toml", Dir)
	}
	if len(l.environments) == 0 {
		l.doc.Errorf("environments", "missing; write [environments.staging] and the like")
	}
}

func (l *loader) folderName(folder, name string) {
	if !validName(name) {
		l.add(folder, "%.80q can't be a name; %s", name, nameRule)
	}
}

// folders are the visible folders in dir. One that is missing has none.
func (l *loader) folders(dir string) (names []string) {
	entries, err := fs.ReadDir(l.fsys, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.add(dir, "reading it: %v", err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func (l *loader) exists(file string) bool {
	if !fs.ValidPath(file) {
		return false
	}
	info, err := fs.Stat(l.fsys, file)
	return err == nil && info.Mode().IsRegular()
}

func flyTomlOf(app, env string) string { return path.Join(Dir, app, env, "fly.toml") }

// readTargets reads the fly.toml of every app in every environment.
func (l *loader) readTargets() {
	for _, env := range slices.Sorted(maps.Keys(l.environments)) {
		for _, app := range slices.Sorted(maps.Keys(l.apps)) {
			t := release.TargetFile{Target: release.Target{App: app, Environment: env}, Path: flyTomlOf(app, env)}
			if !l.isIn(app, env) {
				continue
			}
			doc, err := fs.ReadFile(l.fsys, t.Path)
			if err != nil {
				l.add(t.Path, "reading it: %v", err)
				continue
			}
			doc = withoutBOM(doc)
			t.FlyToml = string(doc)
			c, warnings, err := flytoml.Parse(t.Path, doc)
			l.warnings = append(l.warnings, warnings...)
			if err != nil {
				var problems Errors
				errors.As(err, &problems)
				l.problems = append(l.problems, problems...)
				if c != nil {
					l.readFiles(&t, c, l.failing(c))
				}
				continue
			}
			l.readTarget(&t, c)
			l.environments[env].Targets = append(l.environments[env].Targets, t)
		}
	}
}

// failing records a mistake at a key of a fly.toml.
func (l *loader) failing(c *flytoml.Config) func(key, format string, args ...any) {
	return func(key, format string, args ...any) {
		l.problems = append(l.problems, c.Problem(key, format, args...))
	}
}

func (l *loader) readTarget(t *release.TargetFile, c *flytoml.Config) {
	fail := l.failing(c)
	t.FlyApp = c.App()
	if !validName(t.FlyApp) {
		fail("app", "%.80q can't be the name of a Fly app; %s", t.FlyApp, nameRule)
	}
	if other, twice := l.flyApps[t.FlyApp]; twice {
		fail("app", "%s is the Fly app of %s already; each target has its own", t.FlyApp, other)
	}
	l.flyApps[t.FlyApp] = t.Path

	if l.readFiles(t, c, fail) {
		for _, g := range c.Groups() { // what machine_config says is only known here
			_, err := c.WithFiles(t.Files).Group(g.Name, t.FlyApp)
			var problem *flytoml.Problem
			if errors.As(err, &problem) {
				l.problems = append(l.problems, problem)
				break
			} else if err != nil {
				fail("machine_config", "%v", err)
				break
			}
		}
	}
	if app := l.apps[t.Target.App]; app.Unchecked == release.RefuseUnchecked && !hasCheck(c.WithFiles(t.Files)) && app.Probe == "" {
		fail("", "nothing checks %s, and %s says unchecked = \"refuse\" for it: write a check here, or probe = \"/…\" under [apps.%s]", t.FlyApp, File, t.Target.App)
	}
	for _, g := range c.Groups() {
		if g.Mount != nil && c.Region() == "" {
			l.warnings = append(l.warnings, c.Problem("mounts", "nothing says in which region the volume %s is made: write primary_region = \"…\" at the top of this file before the first rollout", g.Mount.Name))
		}
	}
	l.findDockerfile(t, c, fail)
}

// hasCheck reports whether a group of c has a health check.
func hasCheck(c *flytoml.Config) bool {
	return slices.ContainsFunc(c.Groups(), func(g flytoml.Group) bool {
		group, err := c.Group(g.Name, "image")
		return err == nil && release.ChecksIn(group.New) > 0
	})
}

// readFiles reads the local files that a fly.toml names, and those that they
// name in turn. It returns whether all are there.
func (l *loader) readFiles(t *release.TargetFile, c *flytoml.Config, fail func(key, format string, args ...any)) bool {
	t.Files = map[string][]byte{}
	missing := map[string]bool{}
	for more := true; more; {
		more = false
		for _, f := range c.WithFiles(t.Files).LocalFiles() {
			if _, ok := t.Files[f.Name]; ok || missing[f.Name] {
				continue
			}
			file := l.find(t, f.Name)
			if file == "" {
				fail(f.Key, "there is no %s beside this file or at the root of the repository", f.Name)
				missing[f.Name] = true
				continue
			}
			content, err := fs.ReadFile(l.fsys, file)
			if err != nil {
				fail(f.Key, "reading it: %v", err)
				missing[f.Name] = true
				continue
			}
			t.Files[f.Name], more = content, true
		}
	}
	if len(t.Files) == 0 {
		t.Files = nil
	}
	return len(missing) == 0
}

// find looks for a file that fly.toml names: beside it, then from the root.
func (l *loader) find(t *release.TargetFile, name string) string {
	for _, file := range []string{path.Join(path.Dir(t.Path), name), path.Clean(name)} {
		if l.exists(file) {
			return file
		}
	}
	return ""
}

// ownDockerfile returns the Dockerfile of the target, else that of its app, else
// "".
func (l *loader) ownDockerfile(t *release.TargetFile) string {
	for _, file := range []string{path.Join(path.Dir(t.Path), "Dockerfile"), path.Join(Dir, t.Target.App, "Dockerfile")} {
		if l.exists(file) {
			return file
		}
	}
	return ""
}

// findDockerfile takes the target's own Dockerfile, else its app's, else the
// one that fly.toml names, with what its [build] says of it. Who has none needs
// another way to an image.
func (l *loader) findDockerfile(t *release.TargetFile, c *flytoml.Config, fail func(key, format string, args ...any)) {
	build := c.Build()
	l.checkBuildpacks(t, c, fail)
	t.Build = release.FlyBuild{Image: build.Image, Target: build.Target, Args: build.Args}
	if build.Ignorefile != "" {
		if t.Build.Ignorefile = l.find(t, build.Ignorefile); t.Build.Ignorefile == "" {
			fail("build.ignorefile", "there is no %s beside this file or at the root of the repository", build.Ignorefile)
		}
	}
	if t.Dockerfile = l.ownDockerfile(t); t.Dockerfile != "" {
		return
	}
	if name := build.Dockerfile; name != "" {
		if t.Dockerfile = l.find(t, name); t.Dockerfile == "" {
			fail("build.dockerfile", "there is no %s beside this file or at the root of the repository", name)
		}
		return
	}
	if l.apps[t.Target.App].Go == "" && build.Image == "" && !usesBuildpacks(build) {
		fail("", "nothing says how %s becomes an image; write go = \"…\" at [apps.%s] in %s, or add %s/%s/Dockerfile, or write image = \"…\" at [build]",
			t.Target.App, t.Target.App, File, Dir, t.Target.App)
	}
}

package config

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/microbima/release/fly/flytoml"
	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// readFolders adds the apps and environments that have a folder but are not in
// release.toml: a new app or environment needs no more than a folder.
func (l *loader) readFolders() {
	for _, app := range l.folders(Dir) {
		environments := 0
		for _, env := range l.folders(path.Join(Dir, app)) {
			if !l.exists(flyTomlPath(app, env)) {
				continue
			}
			environments++
			if l.environments[env] == nil {
				l.checkFolderName(path.Join(Dir, app, env), env)
				l.environments[env] = &release.Environment{Name: env}
				l.warnings = append(l.warnings, &Error{
					File: flyTomlPath(app, env),
					Msg:  "release.toml has no [environments." + env + "], so it has no branch and no gate",
				})
			}
		}
		if l.apps[app] == nil && (environments > 0 || l.exists(path.Join(Dir, app, "Dockerfile"))) {
			l.checkFolderName(path.Join(Dir, app), app)
			l.apps[app] = &release.App{Name: app}
		}
	}
	if len(l.apps) == 0 {
		l.add(Dir, "no apps found; each app needs a folder %s/<app>/<environment> with a fly.toml", Dir)
	}
	if len(l.environments) == 0 {
		l.doc.Errorf("environments", "missing; write a table like [environments.staging]")
	}
}

// checkFolderName reports a folder whose name is not a valid name.
func (l *loader) checkFolderName(folder, name string) {
	if !validName(name) {
		l.add(folder, "%.80q is not a valid name; %s", name, nameRule)
	}
}

// folders returns the names of the visible folders in dir, none if dir is missing.
func (l *loader) folders(dir string) (names []string) {
	entries, err := fs.ReadDir(l.fsys, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.add(dir, "cannot be read: %v", err)
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

func flyTomlPath(app, env string) string { return path.Join(Dir, app, env, "fly.toml") }

// readTargets reads the fly.toml of every app in every environment.
func (l *loader) readTargets() {
	for _, env := range slices.Sorted(maps.Keys(l.environments)) {
		for _, app := range slices.Sorted(maps.Keys(l.apps)) {
			t := release.TargetFile{Target: release.Target{App: app, Environment: env}, Path: flyTomlPath(app, env)}
			if !l.checkTarget(app, env) {
				continue
			}
			doc, err := fs.ReadFile(l.fsys, t.Path)
			if err != nil {
				l.add(t.Path, "cannot be read: %v", err)
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
					l.readFiles(&t, c, l.failFunc(c))
				}
				continue
			}
			l.readTarget(&t, c)
			l.environments[env].Targets = append(l.environments[env].Targets, t)
		}
	}
}

// failFunc returns a function that records a mistake at a key of a fly.toml.
func (l *loader) failFunc(c *flytoml.Config) func(key, format string, args ...any) {
	return func(key, format string, args ...any) {
		l.problems = append(l.problems, c.Problem(key, format, args...))
	}
}

// readTarget fills t from its fly.toml and reports the mistakes in it.
func (l *loader) readTarget(t *release.TargetFile, c *flytoml.Config) {
	fail := l.failFunc(c)
	t.FlyApp = c.App()
	if !validName(t.FlyApp) {
		fail("app", "%.80q is not a valid name of a Fly app; %s", t.FlyApp, nameRule)
	}
	if other, twice := l.flyApps[t.FlyApp]; twice {
		fail("app", "%s is already the Fly app of %s; each target needs its own", t.FlyApp, other)
	}
	l.flyApps[t.FlyApp] = t.Path

	if l.readFiles(t, c, fail) {
		for _, g := range c.Groups() { // machine_config needs the local files
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
		fail("", "%s has no check, and unchecked = \"refuse\" of [apps.%s] in %s requires one; write a check here, or probe = \"/…\" there", t.FlyApp, t.Target.App, File)
	}
	for _, g := range c.Groups() {
		if g.Mount != nil && c.Region() == "" {
			l.warnings = append(l.warnings, c.Problem("mounts", "the region of the volume %s is unknown; write primary_region = \"…\" at the top of this file before the first rollout", g.Mount.Name))
		}
	}
	l.findDockerfile(t, c, fail)
}

// hasCheck reports whether a group of c has a health check.
func hasCheck(c *flytoml.Config) bool {
	return slices.ContainsFunc(c.Groups(), func(g flytoml.Group) bool {
		group, err := c.Group(g.Name, "image")
		return err == nil && machineconfig.Read(group.New).Facts().WantedChecks > 0
	})
}

// readFiles reads the local files that a fly.toml names, and those that they name in
// turn. It reports whether all of them exist.
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
				fail(f.Key, "there is no file %s in this folder or at the root of the repository", f.Name)
				missing[f.Name] = true
				continue
			}
			content, err := fs.ReadFile(l.fsys, file)
			if err != nil {
				fail(f.Key, "cannot be read: %v", err)
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

// find returns the path of a file that fly.toml names: in its folder, else from the root
// of the repository, else "".
func (l *loader) find(t *release.TargetFile, name string) string {
	for _, file := range []string{path.Join(path.Dir(t.Path), name), path.Clean(name)} {
		if l.exists(file) {
			return file
		}
	}
	return ""
}

// ownDockerfile returns the Dockerfile in the target's folder, else in its app's, else
// "".
func (l *loader) ownDockerfile(t *release.TargetFile) string {
	for _, file := range []string{path.Join(path.Dir(t.Path), "Dockerfile"), path.Join(Dir, t.Target.App, "Dockerfile")} {
		if l.exists(file) {
			return file
		}
	}
	return ""
}

// findDockerfile sets the Dockerfile of a target: ownDockerfile, else the one of [build]
// in fly.toml. It also reads the options of [build]. A target without a Dockerfile needs
// another source of its image.
func (l *loader) findDockerfile(t *release.TargetFile, c *flytoml.Config, fail func(key, format string, args ...any)) {
	build := c.Build()
	l.checkBuildpacks(t, c, fail)
	t.Build = release.FlyBuild{Image: build.Image, Target: build.Target, Args: build.Args}
	if build.Ignorefile != "" {
		if t.Build.Ignorefile = l.find(t, build.Ignorefile); t.Build.Ignorefile == "" {
			fail("build.ignorefile", "there is no file %s in this folder or at the root of the repository", build.Ignorefile)
		}
	}
	if t.Dockerfile = l.ownDockerfile(t); t.Dockerfile != "" {
		return
	}
	if name := build.Dockerfile; name != "" {
		if t.Dockerfile = l.find(t, name); t.Dockerfile == "" {
			fail("build.dockerfile", "there is no file %s in this folder or at the root of the repository", name)
		}
		return
	}
	if l.apps[t.Target.App].Go == "" && build.Image == "" && !usesBuildpacks(build) {
		fail("", "%s has no source of its image; write go = \"…\" at [apps.%s] in %s, or add %s/%s/Dockerfile, or write image = \"…\" at [build]",
			t.Target.App, t.Target.App, File, Dir, t.Target.App)
	}
}

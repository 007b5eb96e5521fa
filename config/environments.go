package config

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/microbima/release/fly/flytoml"
	"github.com/microbima/release/fly/flytoml/tomldoc"
	"github.com/microbima/release/release"
)

// readOnly reads the key only: the environments of an app.
func (l *loader) readOnly(app string, t *tomldoc.Table) {
	if !t.Has("only") {
		return
	}
	l.only[app] = t.Strings("only")
	if v, ok := t.Any("only"); ok && len(l.only[app]) == 0 {
		if list, is := v.([]any); is && len(list) == 0 {
			t.Errorf("only", "empty; list the environments of %s, like only = [\"staging\"], or remove it", app)
		}
	}
}

// readMachines reads how many machines of each group a first rollout creates; 0 if the
// key is missing.
func readMachines(t *tomldoc.Table) int {
	n := t.Int("machines")
	if n == nil {
		return 0
	}
	if *n != 1 && *n != 2 {
		t.Errorf("machines", "must be 1 (one machine of each group, no standby) or 2 (the default), got %d; it applies to a first rollout, after which `fly scale count` changes the number", *n)
	}
	return *n
}

// checkOnly reports names in only that are not environments.
func (l *loader) checkOnly() {
	for _, app := range slices.Sorted(maps.Keys(l.only)) {
		for i, env := range l.only[app] {
			if l.environments[env] == nil {
				l.reportUnknown(fmt.Sprintf("apps.%s.only[%d]", app, i), "environment", env, slices.Sorted(maps.Keys(l.environments)))
			}
		}
	}
}

// checkTarget reports whether an app is a target in an environment: whether its
// fly.toml exists. It adds a mistake if only contradicts that, and a warning if the
// file is missing and there is no only.
func (l *loader) checkTarget(app, env string) bool {
	file, only := flyTomlPath(app, env), l.only[app]
	exists := l.exists(file)
	switch {
	case exists && only != nil && !slices.Contains(only, env):
		l.add(file, "only of [apps.%s] in %s lists %s, not %s; remove this file or add %[4]s to the list", app, File, strings.Join(only, ", "), env)
		return false
	case !exists && slices.Contains(only, env):
		l.add(file, "missing, although only of [apps.%s] in %s lists %s; add this file or remove %[3]s from the list", app, File, env)
	case !exists && only == nil && len(l.environmentsOf(app)) > 0:
		l.warnings = append(l.warnings, &Error{File: file, Msg: fmt.Sprintf("missing, so %s is not released to %s; if that is intended, write only = [%s] at [apps.%[1]s] in %[4]s",
			app, env, quotedList(l.environmentsOf(app)), File)})
	}
	return exists
}

// environmentsOf returns the environments that have a fly.toml of an app.
func (l *loader) environmentsOf(app string) (environments []string) {
	for _, env := range slices.Sorted(maps.Keys(l.environments)) {
		if l.exists(flyTomlPath(app, env)) {
			environments = append(environments, env)
		}
	}
	return environments
}

func quotedList(names []string) string {
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	return strings.Join(quoted, ", ")
}

// checkTargets reports apps and environments without a target.
func (l *loader) checkTargets() {
	for _, app := range slices.Sorted(maps.Keys(l.apps)) {
		if len(l.environmentsOf(app)) == 0 {
			l.add(path.Join(Dir, app), "%s has no fly.toml in any environment; add %s", app, flyTomlPath(app, "<environment>"))
		}
	}
	for _, env := range slices.Sorted(maps.Keys(l.environments)) {
		has := func(app string) bool { return l.exists(flyTomlPath(app, env)) }
		if len(l.apps) > 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(l.apps)), has) {
			l.doc.Errorf("environments."+env, "no app has a fly.toml for it; add %s", flyTomlPath("<app>", env))
		}
	}
}

// newMachines returns how many machines of a group a first rollout creates, and
// whether the second is a standby of the first.
func newMachines(app release.App, g flytoml.Group) (n int, standby bool) {
	if g.Mount != nil || app.Machines == 1 {
		return 1, false
	}
	return 2, !g.Services
}

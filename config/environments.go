package config

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/microbima/release/fly/flytoml/tomldoc"
	"github.com/microbima/release/release"
)

// readOnly reads the environments that an app is in on purpose.
func (l *loader) readOnly(app string, t *tomldoc.Table) {
	if !t.Has("only") {
		return
	}
	l.only[app] = t.Strings("only")
	if v, ok := t.Any("only"); ok && len(l.only[app]) == 0 {
		if list, is := v.([]any); is && len(list) == 0 {
			t.Errorf("only", "empty; name the environments that %s is in, like only = [\"staging\"], or leave it out", app)
		}
	}
}

// readMachines reads how many machines of each group a first rollout makes.
func readMachines(t *tomldoc.Table) int {
	n := t.Int("machines")
	if n == nil {
		return 0
	}
	if *n != 1 && *n != 2 {
		t.Errorf("machines", "%d: must be 1 (one machine of each group and no standby, never two) or 2 (the default); it is for a first rollout, and `fly scale count` changes it later", *n)
	}
	return *n
}

// checkOnly sees that the environments of each only exist.
func (l *loader) checkOnly() {
	for _, app := range slices.Sorted(maps.Keys(l.only)) {
		for i, env := range l.only[app] {
			if l.environments[env] == nil {
				l.unknown(fmt.Sprintf("apps.%s.only[%d]", app, i), "environment", env, slices.Sorted(maps.Keys(l.environments)))
			}
		}
	}
}

// isIn reports whether an app has a fly.toml in an environment. Where that is
// not as release.toml says it is a mistake; where release.toml says nothing, a
// note.
func (l *loader) isIn(app, env string) bool {
	file, only := flyTomlOf(app, env), l.only[app]
	there := l.exists(file)
	switch {
	case there && only != nil && !slices.Contains(only, env):
		l.add(file, "%s is only in %s, as only at [apps.%[1]s] of %[3]s says; remove this file or name %[4]s there", app, strings.Join(only, ", "), File, env)
		return false
	case !there && slices.Contains(only, env):
		l.add(file, "there is none, and only at [apps.%s] of %s names %s", app, File, env)
	case !there && only == nil && len(l.environmentsOf(app)) > 0:
		l.warnings = append(l.warnings, &Error{File: file, Msg: fmt.Sprintf("there is none, so %s is not part of %s; if that is meant, write only = [%s] at [apps.%[1]s] of %[4]s",
			app, env, quotedList(l.environmentsOf(app)), File)})
	}
	return there
}

// environmentsOf returns the environments that have a fly.toml of an app.
func (l *loader) environmentsOf(app string) (in []string) {
	for _, env := range slices.Sorted(maps.Keys(l.environments)) {
		if l.exists(flyTomlOf(app, env)) {
			in = append(in, env)
		}
	}
	return in
}

func quotedList(names []string) string {
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	return strings.Join(quoted, ", ")
}

// checkTargets sees that each environment and each app has a target.
func (l *loader) checkTargets() {
	for _, app := range slices.Sorted(maps.Keys(l.apps)) {
		if len(l.environmentsOf(app)) == 0 {
			l.add(path.Join(Dir, app), "%s has no fly.toml in any environment; one is %s", app, flyTomlOf(app, "<environment>"))
		}
	}
	for _, env := range slices.Sorted(maps.Keys(l.environments)) {
		has := func(app string) bool { return l.exists(flyTomlOf(app, env)) }
		if len(l.apps) > 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(l.apps)), has) {
			l.doc.Errorf("environments."+env, "no app has a fly.toml for it; one is %s", flyTomlOf("<app>", env))
		}
	}
}

// newMachines returns how many machines of a group a first rollout makes, and
// whether the second is a standby of the first.
func newMachines(app release.App, services, volume bool) (n int, standby bool) {
	if volume || app.Machines == 1 {
		return 1, false
	}
	return 2, !services
}

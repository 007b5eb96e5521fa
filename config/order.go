package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/microbima/release/fly/flytoml/tomldoc"
	"github.com/microbima/release/release"
)

// sortProject adds the apps to the project, each after the apps that it needs, and the
// environments, each after the one named by after.
func (l *loader) sortProject() {
	needs := map[string][]string{}
	for name, app := range l.apps {
		needs[name] = l.knownNeeds(app)
	}
	level := l.levels(needs, "apps.%s.needs", "needs itself")
	for _, app := range l.apps {
		l.project.Apps = append(l.project.Apps, *app)
	}
	slices.SortFunc(l.project.Apps, func(a, b release.App) int {
		return cmp.Or(level[a.Name]-level[b.Name], cmp.Compare(a.Name, b.Name))
	})

	after := map[string][]string{}
	for name, env := range l.environments {
		after[name] = nil
		if env.After == "" {
			continue
		}
		if l.environments[env.After] == nil {
			l.reportUnknown(fmt.Sprintf("environments.%s.after", name), "environment", env.After, slices.Sorted(maps.Keys(l.environments)))
			continue
		}
		after[name] = []string{env.After}
	}
	level = l.levels(after, "environments.%s.after", "comes after itself")
	for _, env := range l.environments {
		slices.SortFunc(env.Targets, func(a, b release.TargetFile) int { return cmp.Compare(a.Target.App, b.Target.App) })
		l.project.Environments = append(l.project.Environments, *env)
	}
	slices.SortFunc(l.project.Environments, func(a, b release.Environment) int {
		return cmp.Or(level[a.Name]-level[b.Name], cmp.Compare(a.Name, b.Name))
	})
}

// knownNeeds returns the needs of an app that exist, and reports the others.
func (l *loader) knownNeeds(app *release.App) (known []string) {
	for i, need := range app.Needs {
		if l.apps[need] == nil {
			l.reportUnknown(fmt.Sprintf("apps.%s.needs[%d]", app.Name, i), "app", need, slices.Sorted(maps.Keys(l.apps)))
			continue
		}
		known = append(known, need)
	}
	return known
}

// reportUnknown reports a name that is not in names, with the nearest of them.
func (l *loader) reportUnknown(key, kind, name string, names []string) {
	if near := tomldoc.Nearest(name, names); near != "" {
		l.doc.Errorf(key, "there is no %s %q; did you mean %s?", kind, name, near)
		return
	}
	l.doc.Errorf(key, "there is no %s %q; there are: %s", kind, name, strings.Join(names, ", "))
}

// levels returns the level of each name: 0 if it follows no other name, else one more
// than the highest level that it follows. A cycle is reported once, at the first of its
// names; one of a single name with the text itself.
func (l *loader) levels(follows map[string][]string, key, itself string) map[string]int {
	level := map[string]int{}
	reported := map[string]bool{}
	var visit func(name string, path []string) int
	visit = func(name string, path []string) int {
		if i := slices.Index(path, name); i >= 0 {
			cycle := path[i:]
			if !slices.ContainsFunc(cycle, func(s string) bool { return reported[s] }) {
				l.reportCycle(cycle, key, itself)
			}
			for _, s := range cycle {
				reported[s] = true
			}
			return 0
		}
		if n, done := level[name]; done {
			return n
		}
		n := 0
		for _, other := range follows[name] {
			n = max(n, visit(other, append(path, name))+1)
		}
		level[name] = n
		return n
	}
	for _, name := range slices.Sorted(maps.Keys(follows)) {
		visit(name, nil)
	}
	return level
}

func (l *loader) reportCycle(names []string, key, itself string) {
	if len(names) == 1 {
		l.doc.Errorf(fmt.Sprintf(key, names[0]), "%s %s", names[0], itself)
		return
	}
	l.doc.Errorf(fmt.Sprintf(key, names[0]), "cycle: %s → %s", strings.Join(names, " → "), names[0])
}

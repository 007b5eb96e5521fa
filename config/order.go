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

// order puts apps behind what they need and environments behind what they come
// after.
func (l *loader) order() {
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
			l.unknown(fmt.Sprintf("environments.%s.after", name), "environment", env.After, slices.Sorted(maps.Keys(l.environments)))
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

func (l *loader) knownNeeds(app *release.App) (known []string) {
	for i, need := range app.Needs {
		if l.apps[need] == nil {
			l.unknown(fmt.Sprintf("apps.%s.needs[%d]", app.Name, i), "app", need, slices.Sorted(maps.Keys(l.apps)))
			continue
		}
		known = append(known, need)
	}
	return known
}

func (l *loader) unknown(key, kind, name string, names []string) {
	if near := tomldoc.Nearest(name, names); near != "" {
		l.doc.Errorf(key, "there is no %s %q; did you mean %s?", kind, name, near)
		return
	}
	l.doc.Errorf(key, "there is no %s %q; there are: %s", kind, name, strings.Join(names, ", "))
}

// levels says how many steps each name is away from one that follows nothing.
// Each circle is reported once, at the first of its names.
func (l *loader) levels(follows map[string][]string, key, itself string) map[string]int {
	level := map[string]int{}
	reported := map[string]bool{}
	var visit func(name string, way []string) int
	visit = func(name string, way []string) int {
		if i := slices.Index(way, name); i >= 0 {
			circle := way[i:]
			if !slices.ContainsFunc(circle, func(s string) bool { return reported[s] }) {
				l.circle(circle, key, itself)
			}
			for _, s := range circle {
				reported[s] = true
			}
			return 0
		}
		if n, done := level[name]; done {
			return n
		}
		n := 0
		for _, other := range follows[name] {
			n = max(n, visit(other, append(way, name))+1)
		}
		level[name] = n
		return n
	}
	for _, name := range slices.Sorted(maps.Keys(follows)) {
		visit(name, nil)
	}
	return level
}

func (l *loader) circle(names []string, key, itself string) {
	if len(names) == 1 {
		l.doc.Errorf(fmt.Sprintf(key, names[0]), "%s %s", names[0], itself)
		return
	}
	l.doc.Errorf(fmt.Sprintf(key, names[0]), "goes in a circle: %s → %s", strings.Join(names, " → "), names[0])
}

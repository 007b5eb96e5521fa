package release

import "fmt"

// hasChecks reports whether a config of spec has a health check.
func (spec Spec) hasChecks() bool {
	for _, g := range spec.Groups {
		for _, config := range g.allConfigs() {
			if config.Facts().WantedChecks > 0 {
				return true
			}
		}
	}
	return false
}

// allConfigs returns the configs of the new and existing machines of the group.
func (g GroupSpec) allConfigs() (all []Config) {
	for _, n := range g.New {
		all = append(all, n.Config)
	}
	for _, id := range sortedKeys(g.Machines) {
		all = append(all, g.Machines[id])
	}
	return all
}

// CheckUnchecked returns an error if a changed target of plan is unchecked and
// release.toml refuses that.
func (p Plan) CheckUnchecked() error {
	for _, t := range p.Targets {
		if t.Unchecked && t.RefuseUnchecked && t.Changed {
			return fmt.Errorf(`%s: release.toml says unchecked = "refuse" for %s, and nothing checks %s: write a check in its fly.toml, or probe = "/…" under [apps.%s]`,
				t.Target, t.Target.App, t.FlyApp, t.Target.App)
		}
	}
	return nil
}

// uncheckedWarning returns the warning for an unchecked target. isPrivate is true if it
// has no public address after the plan.
func uncheckedWarning(isPrivate bool) string {
	w := `nothing checks it: fly.toml has no check, and release.toml no probe; its verdict will be "unchecked"`
	if isPrivate {
		w = `nothing checks it: fly.toml has no check, and it has no public address to probe; its verdict will be "unchecked"`
	}
	return w
}

// Warnings returns the warnings of all targets, each with its app.
func (p Plan) Warnings() (all []string) {
	for _, t := range p.Targets {
		for _, w := range t.Warnings {
			all = append(all, t.Target.App+": "+w)
		}
	}
	return all
}

// isPublicAddress reports whether addresses of that kind are reachable from the internet.
func isPublicAddress(kind string) bool { return kind == "v4" || kind == "v6" || kind == "shared_v4" }

// rolloutWarnings returns the warnings for spec and its rollout from state.
func (spec Spec) rolloutWarnings(state State) (warnings []string) {
	for _, g := range spec.newGroups(state) {
		warnings = append(warnings, fmt.Sprintf("group %s has no machines: %d are made; to have none, remove %s from [processes] of its fly.toml", g.Name, len(g.New), g.Name))
	}
	return append(warnings, spec.Warnings...)
}

// newGroups returns the groups that get their first machines, if other groups of the
// target have machines already.
func (spec Spec) newGroups(state State) (groups []GroupSpec) {
	for _, g := range spec.Groups {
		if len(state.Machines) > 0 && len(g.New) > 0 {
			groups = append(groups, g)
		}
	}
	return groups
}

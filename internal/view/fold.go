package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

const (
	// foldTargets is the largest number of equal targets that are shown one by one.
	foldTargets = 3
	// foldMachines is the largest number of equal machines of a target that are shown.
	foldMachines = 4
)

// A targetGroup holds the targets whose descriptions are equal.
type targetGroup struct {
	apps     []string
	summary  string
	machines int // of each target
	state    string
	progress release.Progress
}

func (g targetGroup) String() string {
	return fmt.Sprintf("%s: %s (the same for %d apps)", strings.Join(g.apps, ", "), g.description(), len(g.apps))
}

// description returns the state of one target of the group.
func (g targetGroup) description() string {
	text := g.summary
	if !strings.Contains(text, "machine") {
		text += ", " + machineCount(g.machines)
	}
	if g.state != "" {
		text += ", " + g.state
	}
	return text
}

// groupTargets returns the targets to show one by one, and a group for each
// description that more than foldTargets targets share. A target with a machine
// that is changing or has failed is always shown by itself.
func groupTargets(targets []release.TargetStatus) (single []release.TargetStatus, groups []targetGroup) {
	byDescription := map[string][]release.TargetStatus{}
	for _, t := range targets {
		if g, ok := targetGroupOf(t); ok {
			byDescription[g.description()] = append(byDescription[g.description()], t)
		}
	}
	var done []string
	for _, t := range targets {
		g, ok := targetGroupOf(t)
		if !ok || len(byDescription[g.description()]) <= foldTargets {
			single = append(single, t)
			continue
		}
		if !slices.Contains(done, g.description()) {
			done = append(done, g.description())
			for _, other := range byDescription[g.description()] {
				g.apps = append(g.apps, other.Target.App)
			}
			groups = append(groups, g)
		}
	}
	return single, groups
}

// targetGroupOf returns the group that t may join, and whether its machines allow it.
func targetGroupOf(t release.TargetStatus) (targetGroup, bool) {
	m, ok := uniformMachine(t)
	g := targetGroup{summary: "nothing to change", machines: len(t.Machines), progress: m.Progress}
	if t.Changed {
		g.summary = targetSummary(t)
	}
	if len(t.Machines) > 0 {
		g.state = strings.Trim(m.State+", "+progressText(m), ", ")
	} else {
		g.progress = release.ProgressUnchanged
	}
	return g, ok
}

// uniformMachine returns the first machine of a target, and whether all of its
// machines are in the same state and none is changing or has failed.
func uniformMachine(t release.TargetStatus) (release.MachineStatus, bool) {
	if len(t.Machines) == 0 {
		return release.MachineStatus{}, true
	}
	first := t.Machines[0]
	ok := first.Progress != release.ProgressRunning && first.Progress != release.ProgressFailed
	for _, m := range t.Machines[1:] {
		ok = ok && m.Progress == first.Progress && m.State == first.State && m.Verb == first.Verb && m.Image == first.Image
	}
	return first, ok
}

// isFolded reports whether a report shows some targets or machines of e together.
func isFolded(e release.EnvironmentStatus) bool {
	_, groups := groupTargets(e.Targets)
	return len(groups) > 0 || slices.ContainsFunc(e.Targets, func(t release.TargetStatus) bool {
		_, ok := uniformMachine(t)
		return ok && len(t.Machines) > foldMachines
	})
}

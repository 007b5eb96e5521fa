package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

const (
	// targetsShown is how many targets that are alike are shown each by itself,
	// and machinesShown how many machines of one target.
	targetsShown  = 3
	machinesShown = 4
)

// likeTargets are targets of which the same is to be said.
type likeTargets struct {
	apps     []string
	word     string
	machines int // of each
	state    string
	progress release.Progress
}

func (l likeTargets) String() string {
	return fmt.Sprintf("%s: %s (the same for %d apps)", strings.Join(l.apps, ", "), l.what(), len(l.apps))
}

// what is the state of each target, in words.
func (l likeTargets) what() string {
	word := l.word
	if !strings.Contains(word, "machine") {
		word += ", " + count(l.machines, "machine")
	}
	if l.state != "" {
		word += ", " + l.state
	}
	return word
}

// likes splits targets into those that are shown each by itself and those that
// are more than targetsShown alike: their machines are in the same state, and
// none of them is being changed or has failed.
func likes(targets []release.TargetStatus) (each []release.TargetStatus, alike []likeTargets) {
	kinds := map[string][]release.TargetStatus{}
	for _, t := range targets {
		if l, ok := likeness(t); ok {
			kinds[l.what()] = append(kinds[l.what()], t)
		}
	}
	var done []string
	for _, t := range targets {
		l, ok := likeness(t)
		if !ok || len(kinds[l.what()]) <= targetsShown {
			each = append(each, t)
			continue
		}
		if !slices.Contains(done, l.what()) {
			done = append(done, l.what())
			for _, other := range kinds[l.what()] {
				l.apps = append(l.apps, other.Target.App)
			}
			alike = append(alike, l)
		}
	}
	return each, alike
}

// likeness is what is said of a target whose machines are alike.
func likeness(t release.TargetStatus) (likeTargets, bool) {
	m, ok := machinesAlike(t)
	l := likeTargets{word: "nothing to change", machines: len(t.Machines), progress: m.Progress}
	if t.Changed {
		l.word = targetWord(t)
	}
	if len(t.Machines) > 0 {
		l.state = strings.Trim(m.State+", "+progress(m), ", ")
	} else {
		l.progress = release.Still
	}
	return l, ok
}

// machinesAlike returns a machine that stands for all of a target's, if they are
// in the same state and none is being changed or has failed.
func machinesAlike(t release.TargetStatus) (release.MachineStatus, bool) {
	if len(t.Machines) == 0 {
		return release.MachineStatus{}, true
	}
	first := t.Machines[0]
	ok := first.Progress != release.Doing && first.Progress != release.Failed
	for _, m := range t.Machines[1:] {
		ok = ok && m.Progress == first.Progress && m.State == first.State && m.Verb == first.Verb && m.Image == first.Image
	}
	return first, ok
}

// isFolded reports whether something of an environment is not shown by itself.
func isFolded(e release.EnvironmentStatus) bool {
	_, alike := likes(e.Targets)
	return len(alike) > 0 || slices.ContainsFunc(e.Targets, func(t release.TargetStatus) bool {
		_, ok := machinesAlike(t)
		return ok && len(t.Machines) > machinesShown
	})
}

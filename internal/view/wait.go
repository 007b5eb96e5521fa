package view

import (
	"fmt"
	"slices"
	"time"

	"github.com/microbima/release/release"
)

// Wait is what is waited for, in a sentence: the last error, the attempt and the
// next try. A zero now leaves out how long that is from now.
func Wait(w release.Wait, now time.Time) string {
	text := oneLine(w.What, 100)
	if w.Error != "" {
		text += ": " + oneLine(w.Error, 400)
	}
	switch {
	case !w.Next.IsZero() && now.IsZero():
		return fmt.Sprintf("%s (attempt %d follows)", text, w.Attempt)
	case w.Next.After(now):
		return fmt.Sprintf("%s (attempt %d in %s)", text, w.Attempt, Took(w.Next.Sub(now)))
	case w.Attempt > 1:
		return fmt.Sprintf("%s (attempt %d)", text, w.Attempt)
	}
	return text
}

// TaskFailure says in a sentence why a workflow stands still, and what ends it.
func TaskFailure(f release.TaskFailure) string {
	return fmt.Sprintf("%s stands still: its workers cannot go on with its history (attempt %d): %s; nothing is changed and nothing is lost meanwhile; "+
		"it continues once a worker runs that fits, such as the build before or a corrected one", Ref(f.Workflow), f.Attempt, oneLine(f.Message, 400))
}

// newWaits returns a line for each wait of after that before has not: a wait
// whose attempt only goes on is not new.
func newWaits(before, after release.Status) (lines []string) {
	if f := after.TaskFailure; f != nil && before.TaskFailure == nil {
		lines = append(lines, TaskFailure(*f))
	}
	for _, w := range after.Waits {
		same := func(o release.Wait) bool { return o.Workflow == w.Workflow && o.What == w.What && o.Error == w.Error }
		if !slices.ContainsFunc(before.Waits, same) {
			lines = append(lines, "waiting: "+Wait(w, time.Time{}))
		}
	}
	return lines
}

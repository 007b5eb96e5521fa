package view

import (
	"fmt"
	"slices"
	"time"

	"github.com/microbima/release/release"
)

// Wait returns a wait as text: the last error, the attempt and the time until the next
// one. If now is zero, that time is left out.
func Wait(w release.Wait, now time.Time) string {
	text := oneLine(w.Activity, 100)
	if w.Error != "" {
		text += ": " + oneLine(w.Error, 400)
	}
	switch {
	case !w.Next.IsZero() && now.IsZero():
		return fmt.Sprintf("%s (attempt %d follows)", text, w.Attempt)
	case w.Next.After(now):
		return fmt.Sprintf("%s (attempt %d in %s)", text, w.Attempt, Duration(w.Next.Sub(now)))
	case w.Attempt > 1:
		return fmt.Sprintf("%s (attempt %d)", text, w.Attempt)
	}
	return text
}

// TaskFailure returns why a workflow is blocked, and what unblocks it.
func TaskFailure(f release.TaskFailure) string {
	return fmt.Sprintf("%s is blocked: no worker can replay its history (attempt %d): %s; nothing is changed or lost; "+
		"it continues when a compatible worker runs, such as the previous build or a corrected one", Ref(f.Workflow), f.Attempt, oneLine(f.Message, 400))
}

// WaitLines returns a log line for each wait of after that before does not have. Waits
// are facts of Temporal, so no event records them. A wait with another attempt of the
// same error is not new.
func WaitLines(before, after release.Status) (lines []string) {
	before, after = escapeAll(before), escapeAll(after)
	if after.HeldAhead != "" && before.HeldAhead != after.HeldAhead {
		lines = append(lines, "waiting: "+QueueText(after))
	}
	if f := after.TaskFailure; f != nil && before.TaskFailure == nil {
		lines = append(lines, TaskFailure(*f))
	}
	for _, w := range after.Waits {
		same := func(o release.Wait) bool {
			return o.Workflow == w.Workflow && o.Activity == w.Activity && o.Error == w.Error
		}
		if !slices.ContainsFunc(before.Waits, same) {
			lines = append(lines, "waiting: "+Wait(w, time.Time{}))
		}
	}
	return lines
}

package view

import (
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// List returns a line per release, in the given order.
func List(entries []release.Entry, now time.Time, style Style) string {
	if len(entries) == 0 {
		return "no releases\n"
	}
	var rows [][]cell
	for _, e := range escapeAll(entries) {
		sign, h := outcomeMark(release.Outcome(e.Outcome))
		word := e.Outcome
		if word == "" {
			word = phaseText(release.Phase(e.Phase), e.Environment)
			if !e.Ended.IsZero() {
				sign, h, word = "✗", red, "stranded"
			}
		}
		end := e.Ended
		if end.IsZero() {
			end = now
		}
		rows = append(rows, []cell{{sign, h}, {Ref(e.ID), bold}, {word, h}, {style.day(e.Started), noColour}, {Duration(end.Sub(e.Started)), dim}, {e.By, noColour}, {oneLine(e.Subject, 60), noColour}})
	}
	return strings.Join(style.table("", rows), "\n") + "\n"
}

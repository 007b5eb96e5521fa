package view

import (
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// List is a line per release, as they are given.
func List(entries []release.Entry, now time.Time, style Style) string {
	if len(entries) == 0 {
		return "no releases\n"
	}
	var rows [][]cell
	for _, e := range clean(entries) {
		sign, h := ended(release.Outcome(e.Outcome))
		word := e.Outcome
		if word == "" {
			word = phase(release.Phase(e.Phase), e.Environment)
			if !e.Ended.IsZero() {
				sign, h, word = "✗", red, "stranded"
			}
		}
		end := e.Ended
		if end.IsZero() {
			end = now
		}
		rows = append(rows, []cell{{sign, h}, {Ref(e.ID), bold}, {word, h}, {style.day(e.Started), noHue}, {Took(end.Sub(e.Started)), dim}, {e.By, noHue}, {oneLine(e.Subject, 60), noHue}})
	}
	return strings.Join(style.table("", rows), "\n") + "\n"
}

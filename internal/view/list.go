package view

import (
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// An Entry is a release in a list.
type Entry struct {
	ID          string    `json:"id"` // workflow ID
	Run         string    `json:"run"`
	Project     string    `json:"project"`
	Revision    string    `json:"revision,omitempty"` // short
	Subject     string    `json:"subject,omitempty"`
	By          string    `json:"by,omitempty"`
	Environment string    `json:"environment,omitempty"`
	Phase       string    `json:"phase,omitempty"`
	Outcome     string    `json:"outcome,omitempty"`
	Started     time.Time `json:"started"`
	Ended       time.Time `json:"ended,omitzero"`
	// CutOff is true for a workflow that was ended from outside, without a report.
	CutOff bool `json:"cut_off,omitempty"`
}

// List returns a line per release, in the given order.
func List(entries []Entry, now time.Time, style Style) string {
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

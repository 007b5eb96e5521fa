package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// waitingRows returns what a release waits for, and the commands that answer it. These
// rows are required on the lowest screen; they are wrapped, not cut.
func waitingRows(s release.Status, style Style, now time.Time) (rows []screenRow) {
	add := func(priority rowPriority, h colour, indent int, format string, args ...any) {
		for _, line := range style.paragraph(h, indent, fmt.Sprintf(format, args...)) {
			rows = append(rows, screenRow{line, priority})
		}
	}
	if s.Outcome != "" {
		return nil
	}
	if s.Queue != "" {
		add(required, yellow, 0, "waiting: %s", oneLine(QueueText(s), 200))
	}
	if f := s.TaskFailure; f != nil {
		add(required, red, 0, "%s", TaskFailure(*f))
	}
	for _, w := range s.Waits {
		add(required, yellow, 0, "waiting: %s", Wait(w, now))
	}
	for _, g := range s.Reviews {
		if g.IgnoredReason != "" {
			add(optional, yellow, 0, "%s", oneLine(reviewText(g), 300))
		}
	}
	for _, n := range s.Notes {
		add(optional, dim, 0, "note: %s", oneLine(n, 300))
	}
	if g := s.Gate; g != nil {
		add(required, bold, 0, "%s waits for %s of plan %s%s%s", g.Environment, count(g.Approvals, "approval"), shortHash(g.Plan), approvedBy(*g), timeLeft(g.Until, now))
		for _, why := range g.Reasons {
			add(required, yellow, 4, "%s", oneLine(why, 300))
		}
		add(required, noColour, 4, "release approve %s", Ref(s.ID))
		add(required, noColour, 4, "release reject %s --reason …", Ref(s.ID))
	}
	if h := s.Held; h != nil {
		add(required, red, 0, "held, needs a resolution: %s", oneLine(h.Why, 300))
		for _, m := range h.Machines {
			add(optional, noColour, 4, "%s", oneLine(m, 200))
		}
		for _, c := range h.Choices {
			add(required, noColour, 4, "release resolve %s %s   %s", Ref(s.ID), fmt.Sprintf("%-8s", c), choiceText(c))
		}
	}
	return rows
}

// paragraph wraps text into lines of the style's width, each painted and indented.
func (s Style) paragraph(h colour, indent int, text string) (lines []string) {
	lead := strings.Repeat(" ", indent)
	if s.Width <= 0 {
		return []string{s.paint(h, lead+text)}
	}
	for line := range strings.Lines(s.wrap(lead, text)) {
		lines = append(lines, s.line(cell{strings.TrimRight(line, "\n"), h}))
	}
	return lines
}

func approvedBy(g release.GateStatus) string {
	if len(g.Approved) == 0 {
		return ""
	}
	return fmt.Sprintf(", given by %s", strings.Join(g.Approved, ", "))
}

func timeLeft(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf(", %s left", Duration(t.Sub(now)))
}

func shortHash(hash string) string { return hash[:min(12, len(hash))] }

// Gate returns instructions to give the review that s waits for: in a terminal, and in
// the Temporal UI at url unless that is empty.
func Gate(s release.Status, url string) string {
	if s.Gate == nil {
		return ""
	}
	s = escapeAll(s)
	ref := Ref(s.ID)
	var b strings.Builder
	fmt.Fprintf(&b, "%s waits for %s of plan %s.\n\n", s.Gate.Environment, count(s.Gate.Approvals, "approval"), shortHash(s.Gate.Plan))
	fmt.Fprintf(&b, "In a terminal:\n    release approve %s\n    release reject %s --reason \"…\"\n", ref, ref)
	if url != "" {
		fmt.Fprintf(&b, "\nIn the Temporal UI, %s\n    send the signal or update %s or %s with this input and your name in by:\n    %s\n",
			escapeLine(url), release.ApproveSignal, release.RejectSignal, strings.ReplaceAll(ReviewJSON(s.Gate.Plan), "\n", "\n    "))
	}
	return b.String()
}

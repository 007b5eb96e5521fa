package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// needs says what a release waits for, and what a person can do about it. Rows of
// what a person is asked are kept on the lowest screen; they are wrapped, not cut.
func needs(s release.Status, style Style, now time.Time) (rows []row) {
	say := func(keep keep, h hue, indent int, format string, args ...any) {
		for _, line := range style.paragraph(h, indent, fmt.Sprintf(format, args...)) {
			rows = append(rows, row{line, keep})
		}
	}
	if s.Outcome != "" {
		return nil
	}
	if s.Queue != "" {
		say(always, yellow, 0, "waiting: %s", oneLine(s.Queue, 200))
	}
	if f := s.TaskFailure; f != nil {
		say(always, red, 0, "%s", TaskFailure(*f))
	}
	for _, w := range s.Waits {
		say(always, yellow, 0, "waiting: %s", Wait(w, now))
	}
	for _, g := range s.Decisions {
		if g.Ignored != "" {
			say(ifRoom, yellow, 0, "%s", oneLine(decision(g), 300))
		}
	}
	for _, n := range s.Notes {
		say(ifRoom, dim, 0, "note: %s", oneLine(n, 300))
	}
	if g := s.Gate; g != nil {
		say(always, bold, 0, "%s waits for %s of plan %s%s%s", g.Environment, count(g.Approvals, "approval"), short(g.Plan), given(*g), until(g.Until, now))
		for _, why := range g.Because {
			say(always, yellow, 4, "%s", oneLine(why, 300))
		}
		say(always, noHue, 4, "release approve %s", Ref(s.ID))
		say(always, noHue, 4, "release reject %s --reason …", Ref(s.ID))
	}
	if h := s.Held; h != nil {
		say(always, red, 0, "a person is needed: %s", oneLine(h.Why, 300))
		for _, m := range h.Machines {
			say(ifRoom, noHue, 4, "%s", oneLine(m, 200))
		}
		for _, c := range h.Choices {
			say(always, noHue, 4, "release resolve %s %s   %s", Ref(s.ID), fmt.Sprintf("%-8s", c), meaning(c))
		}
	}
	return rows
}

// paragraph is text in lines of the style's width, each painted and indented.
func (s Style) paragraph(h hue, indent int, text string) (lines []string) {
	lead := strings.Repeat(" ", indent)
	if s.Width <= 0 {
		return []string{s.paint(h, lead+text)}
	}
	for line := range strings.Lines(s.wrap(lead, text)) {
		lines = append(lines, s.line(cell{strings.TrimRight(line, "\n"), h}))
	}
	return lines
}

func given(g release.GateStatus) string {
	if len(g.Approved) == 0 {
		return ""
	}
	return fmt.Sprintf(", given by %s", strings.Join(g.Approved, ", "))
}

func until(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf(", %s left", Took(t.Sub(now)))
}

func short(hash string) string { return hash[:min(12, len(hash))] }

// Gate says how the review that s waits for is given, from another terminal
// and in the Temporal UI at url ("" leaves that out).
func Gate(s release.Status, url string) string {
	if s.Gate == nil {
		return ""
	}
	s = clean(s)
	ref := Ref(s.ID)
	var b strings.Builder
	fmt.Fprintf(&b, "%s waits for %s of plan %s.\n\n", s.Gate.Environment, count(s.Gate.Approvals, "approval"), short(s.Gate.Plan))
	fmt.Fprintf(&b, "In a terminal:\n    release approve %s\n    release reject %s --reason \"…\"\n", ref, ref)
	if url != "" {
		fmt.Fprintf(&b, "\nIn the Temporal UI, %s\n    send the signal or the update %s or %s with this input, and your name in by:\n    %s\n",
			cleanLine(url), release.ApproveSignal, release.RejectSignal, strings.ReplaceAll(ReviewJSON(s.Gate.Plan), "\n", "\n    "))
	}
	return b.String()
}

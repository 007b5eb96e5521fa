package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// needs says what a release waits for, and what a person can do about it.
func needs(s release.Status, style Style, now time.Time) (lines []string) {
	say := func(h hue, format string, args ...any) {
		lines = append(lines, style.line(cell{fmt.Sprintf(format, args...), h}))
	}
	if s.Outcome != "" {
		return nil
	}
	if s.Queue != "" {
		say(yellow, "waiting: %s", s.Queue)
	}
	if g := s.Gate; g != nil {
		say(bold, "%s waits for %s of plan %s%s%s", g.Environment, count(g.Approvals, "approval"), short(g.Plan), given(*g), until(g.Until, now))
		for _, why := range g.Because {
			say(yellow, "    asked because %s", oneLine(why, 300))
		}
		say(noHue, "    release approve %s", Ref(s.ID))
		say(noHue, "    release reject %s --reason …", Ref(s.ID))
	}
	if h := s.Held; h != nil {
		say(red, "a person is needed: %s", oneLine(h.Why, 300))
		for _, m := range h.Machines {
			say(noHue, "    %s", oneLine(m, 200))
		}
		for _, c := range h.Choices {
			say(noHue, "    release decide %s %s   %s", Ref(s.ID), fmt.Sprintf("%-8s", c), meaning(c))
		}
	}
	for _, g := range s.Decisions {
		if g.Ignored != "" {
			say(yellow, "%s", oneLine(decision(g), 300))
		}
	}
	for _, n := range s.Notes {
		say(dim, "note: %s", oneLine(n, 300))
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

// Gate says how the decision that s waits for is given, from another terminal
// and in the Temporal UI at url ("" leaves that out).
func Gate(s release.Status, url string) string {
	if s.Gate == nil {
		return ""
	}
	ref := Ref(s.ID)
	var b strings.Builder
	fmt.Fprintf(&b, "%s waits for %s of plan %s.\n\n", s.Gate.Environment, count(s.Gate.Approvals, "approval"), short(s.Gate.Plan))
	fmt.Fprintf(&b, "In a terminal:\n    release approve %s\n    release reject %s --reason \"…\"\n", ref, ref)
	if url != "" {
		fmt.Fprintf(&b, "\nIn the Temporal UI, %s\n    send the signal %s or %s with this input, and your name in by:\n    %s\n", url, release.ApproveSignal, release.RejectSignal, SignalJSON(s.Gate.Plan))
	}
	return b.String()
}

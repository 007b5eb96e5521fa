package view

import (
	"fmt"
	"slices"
	"time"

	"github.com/microbima/release/release"
)

// Lines returns the log lines of a change of status: a line for each phase that was
// entered, each test, build and machine that finished, and each review. Equal
// statuses give no lines.
func Lines(before, after release.Status) (lines []string) {
	before, after = escapeAll(before), escapeAll(after)
	if before.ID == "" && after.ID != "" {
		lines = append(lines, startLine(after))
	}
	lines = append(lines, phaseLines(before, after, "", true)...)
	for _, t := range after.Tests {
		if !slices.Contains(before.Tests, t) {
			lines = append(lines, testLine(t))
		}
	}
	for _, b := range newItems(before.Builds, after.Builds) {
		lines = append(lines, buildLine(b))
	}
	for _, s := range newItems(before.Scans, after.Scans) {
		lines = append(lines, scanLine(s))
	}
	for _, g := range newItems(before.Reviews, after.Reviews) {
		lines = append(lines, reviewText(g))
	}
	for _, e := range after.Environments {
		was := release.EnvironmentStatus{}
		if old := before.EnvironmentStatus(e.Name); old != nil {
			was = *old
		}
		lines = append(lines, phaseLines(before, after, e.Name, true)...)
		lines = append(lines, machineLines(was, e)...)
		for _, c := range newItems(was.Commands, e.Commands) {
			lines = append(lines, commandText(c))
		}
		lines = append(lines, phaseLines(before, after, e.Name, false)...)
		lines = append(lines, environmentLines(was, e)...)
	}
	lines = append(lines, gateAndHeldLines(before, after)...)
	lines = append(lines, newWaitLines(before, after)...)
	for _, n := range after.Notes {
		if !slices.Contains(before.Notes, n) {
			lines = append(lines, "note: "+oneLine(n, 500))
		}
	}
	if after.Outcome != "" && before.Outcome == "" {
		lines = append(lines, endLine(after))
	}
	return lines
}

// newItems returns the items of after that were appended since before.
func newItems[T any](before, after []T) []T { return after[min(len(before), len(after)):] }

// phaseLines returns a line for each phase of an environment that was entered between
// the statuses. With early it returns the phases up to the rollout, else those after.
func phaseLines(before, after release.Status, environment string, early bool) (lines []string) {
	spans := func(s release.Status, p release.Phase) (n int) {
		for _, span := range s.Spans {
			if span.Phase == p && span.Environment == environment {
				n++
			}
		}
		return n
	}
	seen := map[release.Phase]int{}
	for _, span := range after.Spans {
		p := span.Phase
		late := slices.Contains([]release.Phase{release.Verifying, release.Baking, release.CleaningUp, release.RollingBack, release.HeldPhase}, p)
		if span.Environment != environment || early == late || p == release.Done {
			continue
		}
		if seen[p]++; seen[p] > spans(before, p) {
			lines = append(lines, phaseText(p, environment))
		}
	}
	return lines
}

func startLine(s release.Status) string {
	line := fmt.Sprintf("release %s of %s", Ref(s.ID), s.Project)
	if subject := subjectText(s, 100); subject != "" {
		line += ": " + subject
	}
	if s.By != "" {
		line += " (by " + s.By + ")"
	}
	return line
}

func endLine(s release.Status) string {
	line := string(s.Outcome)
	if s.Cause != nil {
		line += ": " + oneLine(s.Cause.Message, 500)
	}
	return line
}

func testLine(t release.TestResult) string {
	if t.Passed {
		return fmt.Sprintf("test %s passed in %s", t.Name, Duration(time.Duration(t.Took)))
	}
	return fmt.Sprintf("test %s failed after %s: exit code %d", t.Name, Duration(time.Duration(t.Took)), t.ExitCode)
}

func buildLine(b release.BuildResult) string {
	if b.Image == "" {
		return fmt.Sprintf("build of %s failed after %s", b.App, Duration(time.Duration(b.Took)))
	}
	if b.Reused {
		return fmt.Sprintf("found %s, built before: %s", b.App, Digest(b.Image))
	}
	return fmt.Sprintf("built %s in %s: %s", b.App, Duration(time.Duration(b.Took)), Digest(b.Image))
}

func scanLine(s release.ScanResult) string {
	if s.Passed {
		return fmt.Sprintf("scan of %s passed in %s", s.Name, Duration(time.Duration(s.Took)))
	}
	return fmt.Sprintf("scan of %s failed after %s: exit code %d", s.Name, Duration(time.Duration(s.Took)), s.ExitCode)
}

func machineLines(before, after release.EnvironmentStatus) (lines []string) {
	for _, t := range after.Targets {
		i := slices.IndexFunc(before.Targets, func(o release.TargetStatus) bool { return o.Target == t.Target })
		for _, m := range t.Machines {
			if i >= 0 && slices.ContainsFunc(before.Targets[i].Machines, func(o release.MachineStatus) bool { return sameProgress(o, m) }) {
				continue
			}
			if line := machineLine(m); line != "" {
				lines = append(lines, fmt.Sprintf("%s: machine %s (%s) %s", t.Target, machineName(m), machineLocation(m), line))
			}
		}
	}
	return lines
}

// environmentLines returns the new verdicts of an environment, and its outcome if new.
func environmentLines(before, after release.EnvironmentStatus) (lines []string) {
	for _, v := range after.Verdicts {
		if !slices.ContainsFunc(before.Verdicts, func(o release.Verdict) bool { return o.Target == v.Target && o.Health == v.Health }) {
			lines = append(lines, verdictText(v))
		}
	}
	if after.Outcome != "" && before.Outcome == "" {
		lines = append(lines, after.Name+": "+outcomeText(after))
	}
	return lines
}

// sameProgress reports whether a and b are one machine with the same progress.
func sameProgress(a, b release.MachineStatus) bool {
	return (a.ID == b.ID || a.Name == b.Name) && a.Verb == b.Verb && a.Progress == b.Progress
}

func machineLine(m release.MachineStatus) string {
	switch m.Progress {
	case release.ProgressRunning:
		return progressText(m)
	case release.ProgressDone:
		line := progressText(m)
		if !m.Until.IsZero() && !m.Since.IsZero() {
			line += " in " + Duration(m.Until.Sub(m.Since))
		}
		if m.Verb == release.Create || m.Verb == release.Update {
			line += ", runs " + Digest(m.Image)
		}
		return line
	case release.ProgressFailed:
		return progressText(m)
	}
	return ""
}

func gateAndHeldLines(before, after release.Status) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if text := QueueText(after); text != "" && text != QueueText(before) {
		add("waiting: %s", text)
	}
	if g := after.Gate; g != nil && (before.Gate == nil || before.Gate.Plan != g.Plan) {
		add("%s waits for %s of plan %s: release approve %s", g.Environment, count(g.Approvals, "approval"), shortHash(g.Plan), Ref(after.ID))
		for _, why := range g.Reasons {
			add("reason for the gate: %s", oneLine(why, 500))
		}
	}
	if h := after.Held; h != nil && (before.Held == nil || before.Held.Why != h.Why) {
		add("held, needs a resolution: %s", oneLine(h.Why, 500))
		for _, m := range h.Machines {
			add("held: %s", oneLine(m, 300))
		}
		for _, c := range h.Choices {
			add("held: release resolve %s %s: %s", Ref(after.ID), c, choiceText(c))
		}
	}
	return lines
}

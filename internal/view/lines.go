package view

import (
	"fmt"
	"slices"
	"time"

	"github.com/microbima/release/release"
)

// Lines is what a log says of the way from one status to the next: a line for
// each phase entered, test, build and machine done, decision given. Equal
// statuses say nothing.
func Lines(before, after release.Status) (lines []string) {
	before, after = clean(before), clean(after)
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if before.ID == "" && after.ID != "" {
		say("%s", begun(after))
	}
	lines = append(lines, phaseLines(before, after, "", true)...)
	for _, t := range after.Tests {
		if !slices.Contains(before.Tests, t) {
			say("%s", tested(t))
		}
	}
	for i, b := range after.Builds {
		if i >= len(before.Builds) {
			say("%s", built(b))
		}
	}
	for i, x := range after.Scans {
		if i >= len(before.Scans) {
			say("%s", scanned(x))
		}
	}
	for i, g := range after.Decisions {
		if i >= len(before.Decisions) {
			say("%s", decision(g))
		}
	}
	for _, e := range after.Environments {
		lines = append(lines, phaseLines(before, after, e.Name, true)...)
		was := release.EnvironmentStatus{}
		if old := before.EnvironmentStatus(e.Name); old != nil {
			was = *old
		}
		lines = append(lines, machineLines(was, e)...)
		for i, c := range e.Commands {
			if i >= len(was.Commands) {
				say("%s", command(c))
			}
		}
		lines = append(lines, phaseLines(before, after, e.Name, false)...)
		lines = append(lines, endLines(was, e)...)
	}
	lines = append(lines, waitLines(before, after)...)
	lines = append(lines, newWaits(before, after)...)
	for _, n := range after.Notes {
		if !slices.Contains(before.Notes, n) {
			say("note: %s", oneLine(n, 500))
		}
	}
	if after.Outcome != "" && before.Outcome == "" {
		say("%s", end(after))
	}
	return lines
}

// phaseLines are the phases of an environment entered since, also those that
// are over already: the ones until machines change, or those after.
func phaseLines(before, after release.Status, environment string, early bool) (lines []string) {
	times := func(s release.Status, p release.Phase) (n int) {
		for _, span := range s.Spans {
			if span.Phase == p && span.Environment == environment {
				n++
			}
		}
		return n
	}
	said := map[release.Phase]int{}
	for _, span := range after.Spans {
		p := span.Phase
		late := slices.Contains([]release.Phase{release.Verifying, release.Baking, release.CleaningUp, release.RollingBack, release.HeldPhase}, p)
		if span.Environment != environment || early == late || p == release.Done {
			continue
		}
		if said[p]++; said[p] > times(before, p) {
			lines = append(lines, phase(p, environment))
		}
	}
	return lines
}

func begun(s release.Status) string {
	line := fmt.Sprintf("release %s of %s", Ref(s.ID), s.Project)
	if what := about(s, 100); what != "" {
		line += ": " + what
	}
	if s.By != "" {
		line += " (by " + s.By + ")"
	}
	return line
}

func end(s release.Status) string {
	line := string(s.Outcome)
	if s.Cause != nil {
		line += ": " + oneLine(s.Cause.Message, 500)
	}
	return line
}

func tested(t release.TestResult) string {
	if t.Passed {
		return fmt.Sprintf("test %s passed in %s", t.Name, Took(time.Duration(t.Took)))
	}
	return fmt.Sprintf("test %s failed after %s: exit code %d", t.Name, Took(time.Duration(t.Took)), t.ExitCode)
}

func built(b release.BuildResult) string {
	if b.Image == "" {
		return fmt.Sprintf("build of %s failed after %s", b.App, Took(time.Duration(b.Took)))
	}
	if b.Found {
		return fmt.Sprintf("found %s, built before: %s", b.App, Digest(b.Image))
	}
	return fmt.Sprintf("built %s in %s: %s", b.App, Took(time.Duration(b.Took)), Digest(b.Image))
}

func scanned(s release.ScanResult) string {
	if s.Passed {
		return fmt.Sprintf("scan of %s passed in %s", s.Name, Took(time.Duration(s.Took)))
	}
	return fmt.Sprintf("scan of %s failed after %s: exit code %d", s.Name, Took(time.Duration(s.Took)), s.ExitCode)
}

func machineLines(before, after release.EnvironmentStatus) (lines []string) {
	for _, t := range after.Targets {
		i := slices.IndexFunc(before.Targets, func(o release.TargetStatus) bool { return o.Target == t.Target })
		for _, m := range t.Machines {
			if i >= 0 && slices.ContainsFunc(before.Targets[i].Machines, func(o release.MachineStatus) bool { return same(o, m) }) {
				continue
			}
			if line := machineLine(m); line != "" {
				lines = append(lines, fmt.Sprintf("%s: machine %s (%s) %s", t.Target, machineName(m), where(m), line))
			}
		}
	}
	return lines
}

// endLines are what verifying an environment found, and how its part ended.
func endLines(before, after release.EnvironmentStatus) (lines []string) {
	for _, v := range after.Verdicts {
		if !slices.ContainsFunc(before.Verdicts, func(o release.Verdict) bool { return o.Target == v.Target && o.Health == v.Health }) {
			lines = append(lines, verdict(v))
		}
	}
	if after.Outcome != "" && before.Outcome == "" {
		lines = append(lines, after.Name+": "+outcome(after))
	}
	return lines
}

// same says whether nothing worth a line happened to a machine.
func same(a, b release.MachineStatus) bool {
	return (a.ID == b.ID || a.Name == b.Name) && a.Verb == b.Verb && a.Progress == b.Progress
}

func machineLine(m release.MachineStatus) string {
	switch m.Progress {
	case release.Doing:
		return progress(m)
	case release.Ready:
		line := progress(m)
		if !m.Until.IsZero() && !m.Since.IsZero() {
			line += " in " + Took(m.Until.Sub(m.Since))
		}
		if m.Verb == release.Create || m.Verb == release.Update {
			line += ", runs " + Digest(m.Image)
		}
		return line
	case release.Failed:
		return progress(m)
	}
	return ""
}

func waitLines(before, after release.Status) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if after.Queue != "" && after.Queue != before.Queue {
		say("waiting: %s", after.Queue)
	}
	if g := after.Gate; g != nil && (before.Gate == nil || before.Gate.Plan != g.Plan) {
		say("%s waits for %s of plan %s: release approve %s", g.Environment, count(g.Approvals, "approval"), short(g.Plan), Ref(after.ID))
		for _, why := range g.Because {
			say("it is asked about: %s", oneLine(why, 500))
		}
	}
	if h := after.Held; h != nil && (before.Held == nil || before.Held.Why != h.Why) {
		say("held, a person is needed: %s", oneLine(h.Why, 500))
		for _, m := range h.Machines {
			say("held: %s", oneLine(m, 300))
		}
		for _, c := range h.Choices {
			say("held: release resolve %s %s: %s", Ref(after.ID), c, meaning(c))
		}
	}
	return lines
}

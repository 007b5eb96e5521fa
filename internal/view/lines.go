package view

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/microbima/release/release"
)

// A Log renders the events of a workflow run, and of the rollouts that it starts, as log
// lines, one event after the other. The zero value is ready to use.
type Log struct {
	main     string                     // run ID of the first event; it may be a rollout's
	statuses map[string]*release.Status // folds of the events so far, by run ID
	phase    string                     // the last phase that was shown
	notes    map[string]bool            // notes that were shown
}

// Lines returns the log lines of the next event of a workflow run: most events have
// one, some have several or none.
func (l *Log) Lines(run string, e release.Event) (lines []string) {
	if l.statuses == nil {
		l.main, l.statuses, l.notes = run, map[string]*release.Status{}, map[string]bool{}
	}
	if l.statuses[run] == nil {
		l.statuses[run] = &release.Status{}
	}
	s := l.statuses[run]
	isRepeated := e.Kind == release.EventVerdictReached && hasVerdict(*s, *e.Verdict)
	s.Apply(e)
	e = escapeAll(e)
	switch {
	case isRepeated:
	case e.Kind == release.EventPhaseEntered:
		if text := phaseText(e.Phase, e.Environment); text != l.phase { // a rollout begins in the phase of its release
			l.phase, lines = text, []string{text}
		}
	case run == l.main, s.Release == "":
		lines = append(mainLines(*s, e), eventLines(*s, e)...)
	default:
		lines = eventLines(*s, e)
	}
	notes := []string{e.Note}
	if e.Result != nil {
		notes = append(notes, e.Result.Notes...)
	}
	for _, note := range notes {
		if note != "" && !l.notes[note] {
			l.notes[note] = true
			lines = append(lines, "note: "+oneLine(note, 500))
		}
	}
	return lines
}

// hasVerdict reports whether the last verdict of the target of v has the same health.
func hasVerdict(s release.Status, v release.Verdict) bool {
	env := s.EnvironmentStatus(v.Target.Environment)
	return env != nil && slices.ContainsFunc(env.Verdicts, func(known release.Verdict) bool { return known.Target == v.Target && known.Health == v.Health })
}

// mainLines returns the lines of an event that are not shown for the rollouts of a
// release. s is the status of that run after the event.
func mainLines(s release.Status, e release.Event) []string {
	environment := e.Environment
	switch {
	case e.Kind == release.EventBegun:
		return []string{startLine(escapeAll(s))}
	case e.Kind == release.EventEnded:
		return []string{endLine(escapeAll(s))}
	case e.Kind == release.EventOutcomeReached, e.Kind == release.EventRolloutEnded && e.Result != nil && e.Result.Environment != nil:
		if env := s.EnvironmentStatus(environment); env != nil {
			return []string{environment + ": " + outcomeText(escapeAll(*env))}
		}
	}
	return nil
}

// eventLines returns the lines of an event. s is the status of its run after the event.
func eventLines(s release.Status, e release.Event) []string {
	ref := Ref(escapeLine(cmp.Or(s.Release, s.ID)))
	switch e.Kind {
	case release.EventTestFinished:
		return []string{testLine(*e.Test)}
	case release.EventBuildFinished:
		return []string{buildLine(*e.Build)}
	case release.EventScanFinished:
		return []string{scanLine(*e.Scan)}
	case release.EventReviewReceived:
		return []string{reviewText(*e.Review)}
	case release.EventGateOpened:
		return gateLines(ref, *e.Gate)
	case release.EventQueueJoined:
		return []string{"waiting: " + e.Queue}
	case release.EventHeld:
		return heldLines(ref, *e.Hold)
	case release.EventMachineChanged:
		return machineLines(e.Target, *e.MachineState)
	case release.EventCommandRan:
		return []string{commandText(*e.Command)}
	case release.EventVerdictReached:
		return []string{verdictText(*e.Verdict)}
	}
	return nil
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
	line := cmp.Or(string(s.Outcome), "stranded")
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

// machineLines returns the line of the progress on a machine, if there is one.
func machineLines(t release.Target, m release.MachineStatus) []string {
	line := progressText(m)
	switch m.Progress {
	case release.ProgressRunning, release.ProgressFailed:
	case release.ProgressDone:
		if !m.Until.IsZero() && !m.Since.IsZero() {
			line += " in " + Duration(m.Until.Sub(m.Since))
		}
		if m.Verb == release.Create || m.Verb == release.Update {
			line += ", runs " + Digest(m.Image)
		}
	default:
		return nil
	}
	return []string{fmt.Sprintf("%s: machine %s (%s) %s", t, machineName(m), machineLocation(m), line)}
}

func gateLines(ref string, g release.GateStatus) []string {
	lines := []string{fmt.Sprintf("%s waits for %s of plan %s: release approve %s", g.Environment, count(g.Approvals, "approval"), shortHash(g.Plan), ref)}
	for _, why := range g.Reasons {
		lines = append(lines, "reason for the gate: "+oneLine(why, 500))
	}
	return lines
}

func heldLines(ref string, h release.Hold) []string {
	lines := []string{"held, needs a resolution: " + oneLine(h.Why, 500)}
	for _, m := range h.Machines {
		lines = append(lines, "held: "+oneLine(m, 300))
	}
	for _, c := range h.Choices {
		lines = append(lines, fmt.Sprintf("held: release resolve %s %s: %s", ref, c, choiceText(c)))
	}
	return lines
}

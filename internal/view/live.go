package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// A screenRow is a line of the live view.
type screenRow struct {
	text     string
	priority rowPriority
}

// A rowPriority decides which rows are left out on a screen that is too low.
type rowPriority int

const (
	optional rowPriority = iota // left out first
	useful                      // left out next
	required                    // the review that is waited for
)

// Live returns the lines that a terminal shows of a running release: the time spent in
// each phase, and a line per target and machine.
func Live(s release.Status, now time.Time, style Style) string {
	l := liveView{Status: escapeAll(s), now: now, style: style}
	l.addHeader()
	l.addPhases("", nil)
	l.addJobs()
	for i := range l.Environments {
		e := &l.Environments[i]
		l.addPhases(e.Name, e)
		if e.Name == l.Environment && l.Outcome == "" {
			l.addTargets(e)
		}
	}
	l.rows = append(l.rows, waitingRows(l.Status, style, now)...)
	return l.fitScreen()
}

type liveView struct {
	release.Status
	now   time.Time
	style Style
	rows  []screenRow
}

func (l *liveView) addRow(text string, priority rowPriority) {
	l.rows = append(l.rows, screenRow{text, priority})
}

func (l *liveView) addHeader() {
	end := l.now
	if !l.Ended.IsZero() {
		end = l.Ended
	}
	cells := []cell{{l.Project + " ", noColour}, {Ref(l.ID), bold}}
	if subject := subjectText(l.Status, 60); subject != "" {
		cells = append(cells, cell{" " + subject, noColour})
	}
	if l.By != "" {
		cells = append(cells, cell{" · by " + l.By, dim})
	}
	if !l.Started.IsZero() {
		cells = append(cells, cell{" · " + Duration(end.Sub(l.Started)), dim})
	}
	l.addRow(l.style.line(cells...), required)
}

// addPhases adds a line with the time spent in each phase of an environment, or with
// e == nil, in the phases before the first environment.
func (l *liveView) addPhases(environment string, e *release.EnvironmentStatus) {
	var parts []string
	open, failed := false, false
	for _, s := range l.Spans {
		if s.Environment != environment || s.Phase == release.Done {
			continue
		}
		parts = append(parts, string(s.Phase)+" "+Duration(s.Duration(l.now)))
		open = open || s.To.IsZero()
	}
	sign := cell{"✓", green}
	switch {
	case e != nil && e.Outcome != "":
		mark, hue := outcomeMark(e.Outcome)
		sign = cell{mark, hue}
		parts = append(parts, outcomeText(*e))
	case open && l.Outcome == "":
		sign = cell{"▸", yellow}
		failed = l.Held != nil
	case len(parts) == 0:
		sign = cell{"·", dim}
	}
	if failed {
		sign = cell{"✗", red}
	}
	if e == nil && len(parts) == 0 {
		return
	}
	text := " " + strings.Join(parts, ", ")
	if e != nil {
		text = " " + e.Name + strings.TrimRight(": "+strings.Join(parts, ", "), ": ")
	}
	l.addRow(l.style.line(sign, cell{text, noColour}), useful)
}

// addJobs adds the tests, builds and scans: while they run, or if the release failed.
func (l *liveView) addJobs() {
	if l.Phase != release.Building && l.Cause == nil {
		return
	}
	var rows [][]cell
	for _, j := range l.Jobs {
		rows = append(rows, []cell{progressMark(release.ProgressRunning), {j.Name, noColour}, {"", noColour}, {Duration(l.now.Sub(j.Since)), dim}})
	}
	for _, t := range l.Tests {
		p, word := release.ProgressDone, "passed"
		if !t.Passed {
			p, word = release.ProgressFailed, fmt.Sprintf("exit code %d", t.ExitCode)
		}
		rows = append(rows, []cell{progressMark(p), {"test " + t.Name, noColour}, {word, noColour}, {Duration(time.Duration(t.Took)), dim}})
	}
	for _, b := range l.Builds {
		p := release.ProgressDone
		if b.Image == "" {
			p = release.ProgressFailed
		}
		rows = append(rows, []cell{progressMark(p), {"build " + b.App, noColour}, {Digest(b.Image), noColour}, {Duration(time.Duration(b.Took)), dim}})
	}
	for _, s := range l.Scans {
		p, word := release.ProgressDone, "passed"
		if !s.Passed {
			p, word = release.ProgressFailed, fmt.Sprintf("exit code %d", s.ExitCode)
		}
		rows = append(rows, []cell{progressMark(p), {"scan " + s.Name, noColour}, {word, noColour}, {Duration(time.Duration(s.Took)), dim}})
	}
	for _, line := range l.style.table("    ", rows) {
		l.addRow(line, optional)
	}
}

func (l *liveView) addTargets(e *release.EnvironmentStatus) {
	var rows [][]cell
	for _, t := range e.Targets {
		rows = append(rows, []cell{targetMark(t), {t.Target.App, noColour}, {targetSummary(t), dim}})
	}
	lines := l.style.table("    ", rows)
	var machines [][]cell
	for _, t := range e.Targets {
		for _, m := range t.Machines {
			if t.Changed {
				machines = append(machines, l.machineCells(m))
			}
		}
	}
	machineLines := l.style.table("      ", machines)
	for i, t := range e.Targets {
		l.addRow(lines[i], useful)
		for _, m := range t.Machines {
			if t.Changed {
				priority := optional
				if m.Progress == release.ProgressRunning || m.Progress == release.ProgressFailed {
					priority = useful
				}
				l.addRow(machineLines[0], priority)
				machineLines = machineLines[1:]
			}
		}
	}
}

func (l *liveView) machineCells(m release.MachineStatus) []cell {
	took := ""
	if !m.Since.IsZero() {
		end := m.Until
		if end.IsZero() {
			end = l.now
		}
		if m.Progress != release.ProgressWaiting && m.Progress != release.ProgressUnchanged {
			took = Duration(end.Sub(m.Since))
		}
	}
	return []cell{progressMark(m.Progress), {machineName(m), noColour}, {machineLocation(m), dim}, {progressText(m), noColour}, {cmp.Or(m.State, "–"), noColour}, {Digest(m.Image), dim}, {took, dim}}
}

func targetMark(t release.TargetStatus) cell {
	all := release.ProgressUnchanged
	for _, m := range t.Machines {
		switch {
		case m.Progress == release.ProgressFailed:
			return progressMark(release.ProgressFailed)
		case m.Progress == release.ProgressRunning, all == release.ProgressDone && m.Progress == release.ProgressWaiting, all == release.ProgressWaiting && m.Progress == release.ProgressDone:
			all = release.ProgressRunning
		case all == release.ProgressUnchanged:
			all = m.Progress
		}
	}
	return progressMark(all)
}

func targetSummary(t release.TargetStatus) string {
	if !t.Changed {
		return "nothing to change, " + count(len(t.Machines), "machine")
	}
	ready := 0
	for _, m := range t.Machines {
		if m.Progress == release.ProgressDone || m.Progress == release.ProgressUnchanged {
			ready++
		}
	}
	return fmt.Sprintf("%d of %s", ready, count(len(t.Machines), "machine"))
}

// fitScreen returns the rows that fit on the screen. It leaves out optional and useful
// rows from the bottom, and required ones only if those alone do not fit. The last
// row of the screen stays free for the cursor: with it, each redraw would scroll.
func (l *liveView) fitScreen() string {
	room := l.style.Height - 1
	if l.style.Height <= 0 {
		room = len(l.rows)
	}
	room = max(1, room)
	omitted := 0
	for _, priority := range []rowPriority{optional, useful} {
		for i := len(l.rows) - 1; i >= 0 && len(l.rows)+min(omitted, 1) > room; i-- {
			if l.rows[i].priority == priority {
				l.rows = append(l.rows[:i], l.rows[i+1:]...)
				omitted++
			}
		}
	}
	if omitted > 0 && len(l.rows) < room {
		text := l.style.line(cell{fmt.Sprintf("    … %s left out: the terminal is too low", count(omitted, "line")), dim})
		at := len(l.rows) // above the required rows
		for at > 1 && l.rows[at-1].priority == required {
			at--
		}
		l.rows = slices.Insert(l.rows, at, screenRow{text, required})
	}
	if len(l.rows) > room { // the last rows are the commands to type
		l.rows = l.rows[len(l.rows)-room:]
	}
	var b strings.Builder
	for _, r := range l.rows {
		b.WriteString(r.text + "\n")
	}
	return b.String()
}

package view

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// A row is a line of the live block. Rows that can be done without are left
// out first where the screen is too low.
type row struct {
	text string
	less bool
}

// Live is the block that a terminal shows of a release under way: the time
// spent in each phase, and a line per target and machine.
func Live(s release.Status, now time.Time, style Style) string {
	l := live{Status: s, now: now, style: style}
	l.head()
	l.phases("", nil)
	l.work()
	for i := range s.Environments {
		e := &s.Environments[i]
		l.phases(e.Name, e)
		if e.Name == s.Environment && s.Outcome == "" {
			l.targets(e)
		}
	}
	for _, line := range needs(s, style, now) {
		l.add(line, false)
	}
	return l.fit()
}

type live struct {
	release.Status
	now   time.Time
	style Style
	rows  []row
}

func (l *live) add(text string, less bool) { l.rows = append(l.rows, row{text, less}) }

func (l *live) head() {
	end := l.now
	if !l.Ended.IsZero() {
		end = l.Ended
	}
	cells := []cell{{l.Project + " ", noHue}, {Ref(l.ID), bold}}
	if what := about(l.Status, 60); what != "" {
		cells = append(cells, cell{" " + what, noHue})
	}
	if l.By != "" {
		cells = append(cells, cell{" · by " + l.By, dim})
	}
	if !l.Started.IsZero() {
		cells = append(cells, cell{" · " + Took(end.Sub(l.Started)), dim})
	}
	l.add(l.style.line(cells...), false)
}

// phases is one line: the time spent in each phase of one environment, or of
// what comes before all of them.
func (l *live) phases(environment string, e *release.EnvironmentStatus) {
	var parts []string
	open, failed := false, false
	for _, s := range l.Spans {
		if s.Environment != environment || s.Phase == release.Done {
			continue
		}
		parts = append(parts, string(s.Phase)+" "+Took(s.Took(l.now)))
		open = open || s.To.IsZero()
	}
	sign := cell{"✓", green}
	switch {
	case e != nil && e.Outcome != "":
		mark, hue := ended(e.Outcome)
		sign = cell{mark, hue}
		parts = append(parts, string(e.Outcome))
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
	l.add(l.style.line(sign, cell{text, noHue}), false)
}

// work is what tests and builds have come to, while they are the work.
func (l *live) work() {
	if l.Phase != release.Building && l.Cause == nil {
		return
	}
	var rows [][]cell
	for _, j := range l.Jobs {
		rows = append(rows, []cell{mark(release.Doing), {j.Name, noHue}, {"", noHue}, {Took(l.now.Sub(j.Since)), dim}})
	}
	for _, t := range l.Tests {
		p, word := release.Ready, "passed"
		if !t.Passed {
			p, word = release.Failed, fmt.Sprintf("exit code %d", t.ExitCode)
		}
		rows = append(rows, []cell{mark(p), {"test " + t.Name, noHue}, {word, noHue}, {Took(time.Duration(t.Took)), dim}})
	}
	for _, b := range l.Builds {
		p := release.Ready
		if b.Image == "" {
			p = release.Failed
		}
		rows = append(rows, []cell{mark(p), {"build " + b.App, noHue}, {Digest(b.Image), noHue}, {Took(time.Duration(b.Took)), dim}})
	}
	for _, s := range l.Scans {
		p, word := release.Ready, "passed"
		if !s.Passed {
			p, word = release.Failed, fmt.Sprintf("exit code %d", s.ExitCode)
		}
		rows = append(rows, []cell{mark(p), {"scan " + s.Name, noHue}, {word, noHue}, {Took(time.Duration(s.Took)), dim}})
	}
	for _, line := range l.style.table("    ", rows) {
		l.add(line, true)
	}
}

func (l *live) targets(e *release.EnvironmentStatus) {
	var rows [][]cell
	var less []bool
	for _, t := range e.Targets {
		rows = append(rows, []cell{targetMark(t), {t.Target.App, noHue}, {targetWord(t), dim}})
		less = append(less, false)
	}
	lines := l.style.table("    ", rows)
	var machines [][]cell
	for _, t := range e.Targets {
		for _, m := range t.Machines {
			if t.Changed {
				machines = append(machines, l.machine(m))
			}
		}
	}
	machineLines := l.style.table("      ", machines)
	for i, t := range e.Targets {
		l.add(lines[i], less[i])
		for _, m := range t.Machines {
			if t.Changed {
				l.add(machineLines[0], m.Progress != release.Doing && m.Progress != release.Failed)
				machineLines = machineLines[1:]
			}
		}
	}
}

func (l *live) machine(m release.MachineStatus) []cell {
	took := ""
	if !m.Since.IsZero() {
		end := m.Until
		if end.IsZero() {
			end = l.now
		}
		if m.Progress != release.Waiting && m.Progress != release.Still {
			took = Took(end.Sub(m.Since))
		}
	}
	return []cell{mark(m.Progress), {machineName(m), noHue}, {where(m), dim}, {progress(m), noHue}, {cmp.Or(m.State, "–"), noHue}, {Digest(m.Image), dim}, {took, dim}}
}

func targetMark(t release.TargetStatus) cell {
	all := release.Still
	for _, m := range t.Machines {
		switch {
		case m.Progress == release.Failed:
			return mark(release.Failed)
		case m.Progress == release.Doing, all == release.Ready && m.Progress == release.Waiting, all == release.Waiting && m.Progress == release.Ready:
			all = release.Doing
		case all == release.Still:
			all = m.Progress
		}
	}
	return mark(all)
}

func targetWord(t release.TargetStatus) string {
	if !t.Changed {
		return "nothing to change, " + count(len(t.Machines), "machine")
	}
	ready := 0
	for _, m := range t.Machines {
		if m.Progress == release.Ready || m.Progress == release.Still {
			ready++
		}
	}
	return fmt.Sprintf("%d of %s", ready, count(len(t.Machines), "machine"))
}

// fit leaves out what the screen has no room for, from the bottom.
func (l *live) fit() string {
	left := 0
	for i := len(l.rows) - 1; i >= 0 && l.style.Height > 0 && len(l.rows) >= l.style.Height; i-- {
		if l.rows[i].less {
			l.rows = append(l.rows[:i], l.rows[i+1:]...)
			left++
		}
	}
	if left > 0 {
		l.add(l.style.line(cell{fmt.Sprintf("    … and %s for which this terminal is too low", count(left, "line")), dim}), false)
	}
	if h := l.style.Height; h > 0 && len(l.rows) > h {
		l.rows = l.rows[:h]
	}
	var b strings.Builder
	for _, r := range l.rows {
		b.WriteString(r.text + "\n")
	}
	return b.String()
}

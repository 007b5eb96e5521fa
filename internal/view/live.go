package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// A row is a line of the live block.
type row struct {
	text string
	keep keep
}

// keep is how long a row stays where the screen is too low for all of them.
type keep int

const (
	ifRoom keep = iota // the first to go
	ifAny              // goes when all of those are gone
	always             // what a person is asked
)

// Live is the block that a terminal shows of a release under way: the time
// spent in each phase, and a line per target and machine.
func Live(s release.Status, now time.Time, style Style) string {
	l := live{Status: clean(s), now: now, style: style}
	l.head()
	l.phases("", nil)
	l.work()
	for i := range l.Environments {
		e := &l.Environments[i]
		l.phases(e.Name, e)
		if e.Name == l.Environment && l.Outcome == "" {
			l.targets(e)
		}
	}
	l.rows = append(l.rows, needs(l.Status, style, now)...)
	return l.fit()
}

type live struct {
	release.Status
	now   time.Time
	style Style
	rows  []row
}

func (l *live) add(text string, keep keep) { l.rows = append(l.rows, row{text, keep}) }

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
	l.add(l.style.line(cells...), always)
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
		parts = append(parts, outcome(*e))
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
	l.add(l.style.line(sign, cell{text, noHue}), ifAny)
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
		l.add(line, ifRoom)
	}
}

func (l *live) targets(e *release.EnvironmentStatus) {
	var rows [][]cell
	for _, t := range e.Targets {
		rows = append(rows, []cell{targetMark(t), {t.Target.App, noHue}, {targetWord(t), dim}})
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
		l.add(lines[i], ifAny)
		for _, m := range t.Machines {
			if t.Changed {
				keep := ifRoom
				if m.Progress == release.Doing || m.Progress == release.Failed {
					keep = ifAny
				}
				l.add(machineLines[0], keep)
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

// fit leaves out rows that the screen has no room for: from the bottom, and what a
// person is asked never, unless that alone is too high. The block leaves the
// screen's last row to the cursor: a block as high as the screen would move it up
// at each drawing.
func (l *live) fit() string {
	room := l.style.Height - 1
	if l.style.Height <= 0 {
		room = len(l.rows)
	}
	room = max(1, room)
	left := 0
	for _, keep := range []keep{ifRoom, ifAny} {
		for i := len(l.rows) - 1; i >= 0 && len(l.rows)+min(left, 1) > room; i-- {
			if l.rows[i].keep == keep {
				l.rows = append(l.rows[:i], l.rows[i+1:]...)
				left++
			}
		}
	}
	if left > 0 && len(l.rows) < room {
		words := l.style.line(cell{fmt.Sprintf("    … and %s for which this terminal is too low", count(left, "line")), dim})
		at := len(l.rows) // above what a person is asked
		for at > 1 && l.rows[at-1].keep == always {
			at--
		}
		l.rows = slices.Insert(l.rows, at, row{words, always})
	}
	if len(l.rows) > room { // the last are the commands to type
		l.rows = l.rows[len(l.rows)-room:]
	}
	var b strings.Builder
	for _, r := range l.rows {
		b.WriteString(r.text + "\n")
	}
	return b.String()
}

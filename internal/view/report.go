package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// Report shows the outcome or the phase of a release: the cause with its evidence, the
// targets of each environment, the time of each phase, the reviews, and the cost
// unless that is "".
func Report(s release.Status, cost string, now time.Time, style Style) string {
	s = escapeAll(s)
	r := report{Status: s, now: now, style: style}
	r.writeHeader()
	r.writeCause()
	for _, e := range s.Environments {
		r.writeEnvironment(e)
	}
	r.writeTests()
	r.writeSpans()
	r.writeReviews()
	waiting := s
	waiting.Reviews, waiting.Notes = nil, nil // written elsewhere
	for i, row := range waitingRows(waiting, style, now) {
		if i == 0 {
			r.writeLine("")
		}
		r.writeLine(row.text)
	}
	for i, n := range s.Notes {
		if i == 0 {
			r.writeTitle("Notes")
		}
		r.writeLine("  " + oneLine(n, 500))
	}
	if cost != "" {
		r.writeTitle("Cost")
		r.writeLine("  " + cost)
	}
	if style.Whole || !slices.ContainsFunc(s.Environments, isFolded) {
		return r.String()
	}
	r.writeLine("\n" + style.paint(dim, fmt.Sprintf("To show each target and machine: release status %s --details", Ref(s.ID))))
	return r.String()
}

type report struct {
	release.Status
	strings.Builder
	now   time.Time
	style Style
}

func (r *report) writeLine(line string) { r.write(line + "\n") }

func (r *report) write(text string) { r.WriteString(text) }

func (r *report) writeTitle(text string) { r.writeLine("\n" + r.style.paint(bold, text)) }

func (r *report) writeHeader() {
	title, h := string(r.Outcome), bold
	if r.Outcome == "" {
		title = phaseText(r.Phase, r.Environment)
	} else {
		_, h = outcomeMark(r.Outcome)
	}
	line := r.style.paint(h, title) + ": " + r.Project + " " + Ref(r.ID)
	if subject := subjectText(r.Status, 100); subject != "" {
		line += " " + subject
	}
	if r.By != "" {
		line += ", by " + r.By
	}
	if end := r.Ended; !r.Started.IsZero() {
		if end.IsZero() {
			end = r.now
		}
		line += ", " + Duration(end.Sub(r.Started))
	}
	r.writeLine(line)
}

// writeCause writes the cause, the failures and the output of what failed.
func (r *report) writeCause() {
	if r.Cause == nil {
		return
	}
	r.writeTitle("Why")
	r.writeLine("  " + indentLines(r.Cause.Message))
	for _, f := range r.Cause.Failures {
		r.writeFailure(f)
	}
	for _, t := range r.Tests {
		if !t.Passed {
			r.writeOutput(fmt.Sprintf("test %s, exit code %d", t.Name, t.ExitCode), t.Tail, t.Log)
		}
	}
	for _, b := range r.Builds {
		if b.Image == "" {
			r.writeOutput("build of "+b.App, b.Tail, b.Log)
		}
	}
	for _, s := range r.Scans {
		if !s.Passed {
			r.writeOutput(fmt.Sprintf("scan of %s, exit code %d", s.Name, s.ExitCode), s.Tail, s.Log)
		}
	}
}

func (r *report) writeFailure(f release.Failure) {
	subject := f.Target.String()
	if f.Machine != "" {
		subject = fmt.Sprintf("machine %s of %s", f.Machine, f.Target)
		if f.Group != "" {
			subject += " (" + f.Group + ")"
		}
	}
	if !strings.Contains(r.Cause.Message, f.Reason) || f.Machine == "" || !strings.Contains(r.Cause.Message, f.Machine) {
		r.writeLine("  " + r.style.paint(red, subject) + ": " + f.Reason)
	}
	rows := [][]cell{}
	if f.Check != "" {
		rows = append(rows, []cell{{"check", dim}, {f.Check, noColour}})
	}
	if f.Output != "" {
		rows = append(rows, []cell{{"output", dim}, {oneLine(f.Output, 500), noColour}})
	}
	if f.ExitCode != nil {
		rows = append(rows, []cell{{"exit code", dim}, {fmt.Sprint(*f.ExitCode), noColour}})
	}
	for i, line := range f.Log {
		label := ""
		if i == 0 {
			label = "log"
		}
		rows = append(rows, []cell{{label, dim}, {line, noColour}})
	}
	style := r.style
	style.Width = 0 // evidence is not truncated
	for _, line := range style.table("    ", rows) {
		r.writeLine(line)
	}
}

// writeOutput writes the end of an output, and the command that shows all of it.
func (r *report) writeOutput(title, tail, log string) {
	r.writeLine("  " + r.style.paint(red, title))
	lines := strings.Split(strings.TrimRight(tail, "\n"), "\n")
	for _, line := range lines[max(0, len(lines)-20):] {
		r.writeLine(strings.TrimRight("    "+line, " "))
	}
	if log != "" {
		r.writeLine("    full output: release logs " + Ref(r.ID))
	}
}

func (r *report) writeEnvironment(e release.EnvironmentStatus) {
	if len(e.Targets) == 0 && e.Outcome == "" {
		return
	}
	title := e.Name
	if e.Outcome != "" {
		title += ": " + outcomeText(e)
	}
	r.writeTitle(title)
	if text := e.Lineage.String(); text != "" {
		r.write(r.style.wrap("  ", "this revision "+text))
	}
	if text := e.Lineage.DescribeRemoved(); text != "" {
		r.write(r.style.wrap("  ", text))
	}
	single, groups := e.Targets, []targetGroup(nil)
	if !r.style.Whole {
		single, groups = groupTargets(e.Targets)
	}
	r.writeTargets(single)
	for _, g := range groups {
		sign := progressMark(g.progress)
		r.write(r.style.wrap("  "+r.style.paint(sign.colour, sign.text)+" ", g.String()))
	}
	for _, c := range e.Commands {
		r.writeCommand(c)
	}
	for _, v := range foldVerdicts(e.Verdicts, r.style.Whole) {
		line := r.style.paint(dim, "verified "+v.line)
		if v.health == release.Unchecked {
			line = r.style.paint(yellow, "not verified: "+v.line)
		}
		r.write(r.style.wrap("  ", line))
	}
	for _, w := range e.Warnings {
		r.write(r.style.wrap("  "+r.style.paint(yellow, "!")+" ", w))
	}
}

// writeTargets writes a row per target, each followed by rows of its machines.
func (r *report) writeTargets(targets []release.TargetStatus) {
	var rows [][]cell
	for _, t := range targets {
		rows = append(rows, []cell{{t.Target.App, noColour}, {t.FlyApp, dim}, {t.URL, noColour}, {reportSummary(t), dim}})
	}
	lines := r.style.table("  ", rows)
	rows = nil
	var counts []int // rows of machines of each target
	for _, t := range targets {
		machines, more, sign := t.Machines, 0, cell{}
		if state, ok := uniformMachine(t); ok && len(machines) > foldMachines && !r.style.Whole {
			machines, more = machines[:foldMachines], len(machines)-foldMachines
			sign = progressMark(state.Progress)
		}
		for _, m := range machines {
			rows = append(rows, []cell{progressMark(m.Progress), {machineName(m), noColour}, {machineLocation(m), dim}, {m.State, noColour}, {Digest(m.Image), noColour}, {progressText(m), dim}})
		}
		if more > 0 {
			rows = append(rows, []cell{sign, {fmt.Sprintf("and %d more like these", more), noColour}})
		}
		counts = append(counts, len(machines)+min(more, 1))
	}
	machines := r.style.table("    ", rows)
	for i := range targets {
		r.writeLine(lines[i])
		for _, line := range machines[:counts[i]] {
			r.writeLine(line)
		}
		machines = machines[counts[i]:]
	}
}

// reportSummary returns how many machines of a target are done, and its Fly release.
func reportSummary(t release.TargetStatus) string {
	text := "nothing to change"
	if t.Changed {
		text = targetSummary(t)
	}
	if t.FlyRelease > 0 {
		text += fmt.Sprintf(", Fly release v%d", t.FlyRelease)
	}
	return text
}

// writeCommand writes the result of a release command and its last lines of output.
func (r *report) writeCommand(c release.CommandResult) {
	h := dim
	if c.ExitCode != 0 {
		h = red
	}
	r.writeLine("  " + r.style.paint(h, commandText(c)))
	for _, line := range c.Log {
		r.writeLine(strings.TrimRight("    "+line, " "))
	}
}

// writeSpans writes a line per environment: the time spent in each phase.
func (r *report) writeSpans() {
	var environments []string
	times := map[string][]string{}
	for _, s := range r.Spans {
		if s.Phase == release.Done {
			continue
		}
		if !slices.Contains(environments, s.Environment) {
			environments = append(environments, s.Environment)
		}
		times[s.Environment] = append(times[s.Environment], string(s.Phase)+" "+Duration(s.Duration(r.now)))
	}
	if len(environments) == 0 {
		return
	}
	r.writeTitle("Time")
	for _, e := range environments {
		line := "  " + strings.Join(times[e], ", ")
		if e != "" {
			line = "  " + e + ": " + strings.Join(times[e], ", ")
		}
		r.writeLine(line)
	}
}

func (r *report) writeReviews() {
	for i, g := range r.Reviews {
		if i == 0 {
			r.writeTitle("Reviews")
		}
		r.writeLine("  " + r.style.clock(g.At) + " " + reviewText(g) + ", by " + g.Via)
	}
}

// indentLines indents all lines of text after the first.
func indentLines(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

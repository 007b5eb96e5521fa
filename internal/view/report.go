package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// CostText returns what a release costs, in one line.
func CostText(c release.Cost) string {
	return fmt.Sprintf("%d history events; %s on Temporal Cloud, about %d of them heartbeats, $%.4f at $%.0f per million (queries besides)",
		c.Events, count(c.Actions, "action"), c.Heartbeats, c.Dollars(), release.DollarsPerMillion)
}

// Report is how a release ended, or where it is: the cause with its evidence,
// what runs where, the time each phase took, who decided what, what it cost.
// A cost without events is left out.
func Report(s release.Status, cost release.Cost, now time.Time, style Style) string {
	s = clean(s)
	r := report{Status: s, now: now, style: style}
	r.head()
	r.cause()
	for _, e := range s.Environments {
		r.environment(e)
	}
	r.tests()
	r.spans()
	r.decisions()
	waits := s
	waits.Decisions, waits.Notes = nil, nil // said elsewhere
	for i, row := range needs(waits, style, now) {
		if i == 0 {
			r.say("")
		}
		r.say(row.text)
	}
	for i, n := range s.Notes {
		if i == 0 {
			r.title("Notes")
		}
		r.say("  " + oneLine(n, 500))
	}
	if cost.Events > 0 {
		r.title("Cost")
		r.say("  " + CostText(cost))
	}
	if style.Whole || !slices.ContainsFunc(s.Environments, isFolded) {
		return r.String()
	}
	r.say("\n" + style.paint(dim, fmt.Sprintf("Each target and machine by itself: release status %s --details", Ref(s.ID))))
	return r.String()
}

type report struct {
	release.Status
	strings.Builder
	now   time.Time
	style Style
}

func (r *report) say(line string) { r.write(line + "\n") }

func (r *report) write(text string) { r.WriteString(text) }

func (r *report) title(text string) { r.say("\n" + r.style.paint(bold, text)) }

func (r *report) head() {
	word, h := string(r.Outcome), bold
	if r.Outcome == "" {
		word = phase(r.Phase, r.Environment)
	} else {
		_, h = ended(r.Outcome)
	}
	line := r.style.paint(h, word) + ": " + r.Project + " " + Ref(r.ID)
	if what := about(r.Status, 100); what != "" {
		line += " " + what
	}
	if r.By != "" {
		line += ", by " + r.By
	}
	if end := r.Ended; !r.Started.IsZero() {
		if end.IsZero() {
			end = r.now
		}
		line += ", " + Took(end.Sub(r.Started))
	}
	r.say(line)
}

// cause says why, and shows the evidence.
func (r *report) cause() {
	if r.Cause == nil {
		return
	}
	r.title("Why")
	r.say("  " + indented(r.Cause.Message))
	for _, f := range r.Cause.Failures {
		r.failure(f)
	}
	for _, t := range r.Tests {
		if !t.Passed {
			r.evidence(fmt.Sprintf("test %s, exit code %d", t.Name, t.ExitCode), t.Tail, t.Log)
		}
	}
	for _, b := range r.Builds {
		if b.Image == "" {
			r.evidence("build of "+b.App, b.Tail, b.Log)
		}
	}
	for _, s := range r.Scans {
		if !s.Passed {
			r.evidence(fmt.Sprintf("scan of %s, exit code %d", s.Name, s.ExitCode), s.Tail, s.Log)
		}
	}
}

func (r *report) failure(f release.Failure) {
	who := f.Target.String()
	if f.Machine != "" {
		who = fmt.Sprintf("machine %s of %s", f.Machine, f.Target)
		if f.Group != "" {
			who += " (" + f.Group + ")"
		}
	}
	if !strings.Contains(r.Cause.Message, f.Reason) || f.Machine == "" || !strings.Contains(r.Cause.Message, f.Machine) {
		r.say("  " + r.style.paint(red, who) + ": " + f.Reason)
	}
	rows := [][]cell{}
	if f.Check != "" {
		rows = append(rows, []cell{{"check", dim}, {f.Check, noHue}})
	}
	if f.Output != "" {
		rows = append(rows, []cell{{"output", dim}, {oneLine(f.Output, 500), noHue}})
	}
	if f.ExitCode != nil {
		rows = append(rows, []cell{{"exit code", dim}, {fmt.Sprint(*f.ExitCode), noHue}})
	}
	for i, line := range f.Log {
		label := ""
		if i == 0 {
			label = "its log"
		}
		rows = append(rows, []cell{{label, dim}, {line, noHue}})
	}
	style := r.style
	style.Width = 0 // evidence is not cut
	for _, line := range style.table("    ", rows) {
		r.say(line)
	}
}

// evidence is the end of a test's or a build's output, and where the whole is.
func (r *report) evidence(what, tail, log string) {
	r.say("  " + r.style.paint(red, what))
	lines := strings.Split(strings.TrimRight(tail, "\n"), "\n")
	for _, line := range lines[max(0, len(lines)-20):] {
		r.say(strings.TrimRight("    "+line, " "))
	}
	if log != "" {
		r.say("    the whole of it: release logs " + Ref(r.ID))
	}
}

func (r *report) environment(e release.EnvironmentStatus) {
	if len(e.Targets) == 0 && e.Outcome == "" {
		return
	}
	title := e.Name
	if e.Outcome != "" {
		title += ": " + outcome(e)
	}
	r.title(title)
	if said := e.Lineage.String(); said != "" {
		r.write(r.style.wrap("  ", "this revision "+said))
	}
	if said := e.Lineage.TakenAway(); said != "" {
		r.write(r.style.wrap("  ", said))
	}
	each, alike := e.Targets, []likeTargets(nil)
	if !r.style.Whole {
		each, alike = likes(e.Targets)
	}
	r.targets(each)
	for _, l := range alike {
		sign := mark(l.progress)
		r.write(r.style.wrap("  "+r.style.paint(sign.hue, sign.text)+" ", l.String()))
	}
	for _, c := range e.Commands {
		r.command(c)
	}
	for _, v := range folded(e.Verdicts, r.style.Whole) {
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

// targets are rows of targets, each with its machines.
func (r *report) targets(targets []release.TargetStatus) {
	var rows [][]cell
	for _, t := range targets {
		rows = append(rows, []cell{{t.Target.App, noHue}, {t.FlyApp, dim}, {t.URL, noHue}, {reportWord(t), dim}})
	}
	lines := r.style.table("  ", rows)
	rows = nil
	var counts []int // rows of machines of each target
	for _, t := range targets {
		machines, more, alike := t.Machines, 0, cell{}
		if state, ok := machinesAlike(t); ok && len(machines) > machinesShown && !r.style.Whole {
			machines, more = machines[:machinesShown], len(machines)-machinesShown
			alike = mark(state.Progress)
		}
		for _, m := range machines {
			rows = append(rows, []cell{mark(m.Progress), {machineName(m), noHue}, {where(m), dim}, {m.State, noHue}, {Digest(m.Image), noHue}, {progress(m), dim}})
		}
		if more > 0 {
			rows = append(rows, []cell{alike, {fmt.Sprintf("and %d more like these", more), noHue}})
		}
		counts = append(counts, len(machines)+min(more, 1))
	}
	machines := r.style.table("    ", rows)
	for i := range targets {
		r.say(lines[i])
		for _, line := range machines[:counts[i]] {
			r.say(line)
		}
		machines = machines[counts[i]:]
	}
}

// reportWord says how much of a target is done.
func reportWord(t release.TargetStatus) string {
	word := "nothing to change"
	if t.Changed {
		word = targetWord(t)
	}
	if t.FlyRelease > 0 {
		word += fmt.Sprintf(", Fly release v%d", t.FlyRelease)
	}
	return word
}

// command says how a release command ended, with its last lines.
func (r *report) command(c release.CommandResult) {
	h := dim
	if c.ExitCode != 0 {
		h = red
	}
	r.say("  " + r.style.paint(h, command(c)))
	for _, line := range c.Log {
		r.say(strings.TrimRight("    "+line, " "))
	}
}

// spans is a line per environment: the time spent in each phase.
func (r *report) spans() {
	var environments []string
	times := map[string][]string{}
	for _, s := range r.Spans {
		if s.Phase == release.Done {
			continue
		}
		if !slices.Contains(environments, s.Environment) {
			environments = append(environments, s.Environment)
		}
		times[s.Environment] = append(times[s.Environment], string(s.Phase)+" "+Took(s.Took(r.now)))
	}
	if len(environments) == 0 {
		return
	}
	r.title("Time")
	for _, e := range environments {
		line := "  " + strings.Join(times[e], ", ")
		if e != "" {
			line = "  " + e + ": " + strings.Join(times[e], ", ")
		}
		r.say(line)
	}
}

func (r *report) decisions() {
	for i, g := range r.Decisions {
		if i == 0 {
			r.title("Decisions")
		}
		r.say("  " + r.style.clock(g.At) + " " + decision(g) + ", by " + g.Door)
	}
}

// indented keeps the further lines of text under its first.
func indented(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

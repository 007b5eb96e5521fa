package view

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// Temporal takes 20 kB of Markdown, and a person reads less.
const (
	detailsBytes    = 20_000
	detailsMachines = 40
	detailsGiven    = 10 // decisions, the newest
	// detailsSteps is of how many steps a plan may be that a workflow renders:
	// beyond it that would take a part of the second that a workflow task has.
	detailsSteps     = 2000
	detailsPlanBytes = 9_000
)

// Details is the Markdown that the Temporal UI shows of a running workflow: the
// phase, what a person can do now and how exactly, and every machine. It knows
// no clock, so a workflow may call it.
func Details(s release.Status) string {
	plan := s.Plan // Plan cleans it, where it is shown
	s.Plan = nil
	s = clean(s)
	s.Plan = plan
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", Markdown(headline(s)))
	if s.Revision.Commit != "" {
		word := "Revision"
		if s.Restores != nil {
			word = "Back to"
		}
		fmt.Fprintf(&b, "%s %s %s", word, Code(s.Revision.Short()), Markdown(oneLine(s.Revision.Subject, 120)))
		if said := takenAway(s); said != "" {
			fmt.Fprintf(&b, " · %s", Markdown(oneLine(said, 200)))
		}
	}
	if s.By != "" {
		fmt.Fprintf(&b, " · by %s", Markdown(s.By))
	}
	if !s.Since.IsZero() {
		fmt.Fprintf(&b, " · since %s", s.Since.UTC().Format(time.DateTime+" UTC"))
	}
	b.WriteString("\n")
	detailsCause(&b, s)
	if s.Gate != nil {
		detailsGate(&b, s)
	}
	if s.Held != nil {
		detailsHeld(&b, s.ID, *s.Held)
	}
	if s.Outcome == "" && s.Gate == nil && s.Held == nil {
		fmt.Fprintf(&b, "\nWhat fails and is tried again is on this page under **Pending Activities**, and in `release status %s`: the last error, the attempt and the next try.\n", Ref(s.ID))
	}
	detailsDecisions(&b, s.Decisions)
	detailsTargets(&b, s.Environments)
	for i, n := range s.Notes {
		if i == 0 {
			b.WriteString("\n**Notes**\n\n")
		}
		fmt.Fprintf(&b, "- %s\n", Markdown(oneLine(n, 300)))
	}
	text := Escape(b.String())
	if len(text) > detailsBytes {
		return strings.ToValidUTF8(text[:detailsBytes-8], "") + "\n\n…\n"
	}
	return text
}

// headline is the state of a release in a few words.
func headline(s release.Status) string {
	switch {
	case s.Outcome != "":
		return string(s.Outcome)
	case s.Queue != "":
		return phase(s.Phase, s.Environment) + " (" + s.Queue + ")"
	}
	return phase(s.Phase, s.Environment)
}

func detailsCause(b *strings.Builder, s release.Status) {
	if s.Cause == nil {
		return
	}
	fmt.Fprintf(b, "\n**Why:** %s\n", Markdown(oneLine(s.Cause.Message, 600)))
	for i, f := range s.Cause.Failures {
		if i == 10 {
			fmt.Fprintf(b, "- … and %d more\n", len(s.Cause.Failures)-i)
			return
		}
		fmt.Fprintf(b, "- %s\n", Markdown(oneLine(f.Error(), 400)))
	}
}

func detailsGate(b *strings.Builder, s release.Status) {
	g := *s.Gate
	fmt.Fprintf(b, "\n**%s waits for %s**", Markdown(g.Environment), count(g.Approvals, "approval"))
	if len(g.Approved) > 0 {
		fmt.Fprintf(b, ", %d given (%s)", len(g.Approved), Markdown(strings.Join(g.Approved, ", ")))
	}
	if !g.Until.IsZero() {
		fmt.Fprintf(b, ", until %s", g.Until.UTC().Format(time.DateTime+" UTC"))
	}
	fmt.Fprintf(b, ". Plan %s.\n\n", Code(short(g.Plan)))
	for _, why := range g.Because {
		fmt.Fprintf(b, "- %s\n", Markdown(oneLine(why, 300)))
	}
	b.WriteString("\n")
	fmt.Fprintf(b, "In a terminal: %s or %s.\n\n", Code("release approve "+Ref(s.ID)), Code("release reject "+Ref(s.ID)+" --reason …"))
	fmt.Fprintf(b, "Here: send the signal or the update `%s` or `%s` with this input, and your name in `by` (without one it does not count):\n\n", release.ApproveSignal, release.RejectSignal)
	b.WriteString(fenced("json", ReviewJSON(g.Plan)) + "\n")
	if s.Plan != nil {
		detailsCommits(b, s.Plan.Lineage)
		detailsPlan(b, s.ID, *s.Plan)
	}
}

// ReviewJSON is the input of approve and reject for one plan. The name is left
// to be written: a review by nobody does not count.
func ReviewJSON(hash string) string {
	doc, _ := json.MarshalIndent(struct { // strings always marshal
		By     string `json:"by"`
		Reason string `json:"reason"`
		Plan   string `json:"plan"`
	}{Plan: short(hash)}, "", "  ")
	return string(doc)
}

// detailsCommits lists what the plan brings and takes away.
func detailsCommits(b *strings.Builder, l release.Lineage) {
	parts, otherwise := commitsOf(l)
	if otherwise != "" {
		fmt.Fprintf(b, "%s\n\n", Markdown(otherwise))
	}
	for _, part := range parts {
		fmt.Fprintf(b, "**%s**\n\n", Markdown(part.title))
		for _, c := range part.newest[:min(len(part.newest), detailsMachines)] {
			fmt.Fprintf(b, "- %s %s · %s\n", Code(c.Short()), Markdown(oneLine(c.Subject, 100)), Markdown(oneLine(c.Author, 60)))
		}
		if n := part.total - min(len(part.newest), detailsMachines); n > 0 {
			fmt.Fprintf(b, "- … and %d more\n", n)
		}
		b.WriteString("\n")
	}
}

// detailsPlan is the plan as the command line shows it.
func detailsPlan(b *strings.Builder, id string, p release.Plan) {
	if n := len(p.Steps()); n > detailsSteps {
		fmt.Fprintf(b, "The plan has %d steps, too many to be shown here: %s shows it.\n", n, Code("release approve "+Ref(id)))
		return
	}
	text := Plan(p, Style{})
	if len(text) > detailsPlanBytes {
		end := strings.LastIndexByte(text[:detailsPlanBytes], '\n')
		text = text[:max(0, end)] + fmt.Sprintf("\n… and %s more: release approve %s", count(strings.Count(text[max(0, end):], "\n")-1, "line"), Ref(id))
	}
	b.WriteString(fenced("", text))
}

func detailsHeld(b *strings.Builder, id string, h release.Held) {
	fmt.Fprintf(b, "\n**A person is needed:** %s\n\n", Markdown(oneLine(h.Why, 600)))
	for i, m := range h.Machines {
		if i == detailsMachines {
			fmt.Fprintf(b, "- … and %d more\n", len(h.Machines)-i)
			break
		}
		fmt.Fprintf(b, "- %s\n", Markdown(oneLine(m, 150)))
	}
	b.WriteString("\nChoices:\n\n")
	for _, c := range h.Choices {
		fmt.Fprintf(b, "- %s: %s\n", Code(string(c)), meaning(c))
	}
	fmt.Fprintf(b, "\nIn a terminal: %s. Here: send this workflow the signal or the update `%s` with a choice, and your name in `by`:\n\n", Code(fmt.Sprintf("release resolve %s %s", Ref(id), firstChoice(h))), release.AnswerSignal)
	b.WriteString(fenced("json", fmt.Sprintf("{\n  \"choice\": \"%s\",\n  \"by\": \"\",\n  \"reason\": \"\",\n  \"hold\": %d\n}", firstChoice(h), h.Number)))
}

func firstChoice(h release.Held) release.Choice {
	if len(h.Choices) == 0 {
		return release.Retry
	}
	return h.Choices[0]
}

func detailsDecisions(b *strings.Builder, given []release.Given) {
	older := max(0, len(given)-detailsGiven)
	for i, g := range given[older:] {
		if i == 0 {
			b.WriteString("\n**Decisions**\n\n")
		}
		if i == 0 && older > 0 {
			fmt.Fprintf(b, "- … %d before these\n", older)
		}
		fmt.Fprintf(b, "- %s UTC, by %s: %s\n", g.At.UTC().Format(time.TimeOnly), Markdown(g.Door), Markdown(oneLine(decision(g), 300)))
	}
}

func detailsTargets(b *strings.Builder, environments []release.EnvironmentStatus) {
	rows := 0
	for _, e := range environments {
		if len(e.Targets) == 0 && e.Outcome == "" {
			continue
		}
		fmt.Fprintf(b, "\n**%s**", Markdown(e.Name))
		if e.Outcome != "" {
			fmt.Fprintf(b, " — %s", Markdown(outcome(e)))
		}
		b.WriteString("\n")
		if len(e.Targets) > 0 {
			b.WriteString("\n| App | Machine | Group | Region | State | Progress | Image |\n|---|---|---|---|---|---|---|\n")
		}
		more := 0
		for _, t := range e.Targets {
			if len(t.Machines) == 0 {
				fmt.Fprintf(b, "| %s | – | | | | no machines | %s |\n", app(t), Code(Digest(t.Image)))
			}
			for _, m := range t.Machines {
				if rows++; rows > detailsMachines {
					more++
					continue
				}
				fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", app(t), Code(machineName(m)), Markdown(m.Group), Markdown(m.Region), Markdown(m.State), Markdown(progress(m)), Code(Digest(m.Image)))
			}
		}
		if more > 0 {
			fmt.Fprintf(b, "\n… and %s besides\n", count(more, "machine"))
		}
		for _, c := range e.Commands {
			fmt.Fprintf(b, "\n%s\n", Markdown(command(c)))
			if len(c.Log) > 0 {
				b.WriteString("\n" + fenced("", logText(c.Log)))
			}
		}
		for _, v := range folded(e.Verdicts, false) {
			fmt.Fprintf(b, "\n%s\n", Markdown(v.line))
		}
		if n := len(e.Verdicts); n > 0 && !e.Verdicts[n-1].At.IsZero() {
			fmt.Fprintf(b, "\nVerified at %s.\n", e.Verdicts[n-1].At.UTC().Format(time.DateTime+" UTC"))
		}
		for _, w := range e.Warnings {
			fmt.Fprintf(b, "\n%s\n", Markdown(oneLine(w, 300)))
		}
	}
}

// logText is lines of a log, one in a line each.
func logText(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(cleanLine(line) + "\n")
	}
	return b.String()
}

// app is a target's name in a table, with a link to where it is served.
func app(t release.TargetStatus) string {
	if !address.MatchString(t.URL) {
		return Markdown(t.Target.App)
	}
	return fmt.Sprintf("[%s](%s)", Markdown(t.Target.App), t.URL)
}

// progress is how far a machine is, with the verb where it has one.
func progress(m release.MachineStatus) string {
	switch {
	case m.Progress == release.Doing:
		return doing(m.Verb)
	case m.Progress == release.Ready && m.Verb != "":
		return done(m.Verb)
	case m.Progress == release.Failed && m.Verb != "":
		return failedTo(m.Verb)
	}
	return string(m.Progress)
}

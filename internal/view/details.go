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
)

// Details is the Markdown that the Temporal UI shows of a running workflow: the
// phase, what a person can do now and how exactly, and every machine. It knows
// no clock, so a workflow may call it.
func Details(s release.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", headline(s))
	if s.Revision.Commit != "" {
		fmt.Fprintf(&b, "Revision `%s` %s", s.Revision.Short(), plain(oneLine(s.Revision.Subject, 120)))
	}
	if s.By != "" {
		fmt.Fprintf(&b, " · by %s", plain(s.By))
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
	detailsDecisions(&b, s.Decisions)
	detailsTargets(&b, s.Environments)
	for i, n := range s.Notes {
		if i == 0 {
			b.WriteString("\n**Notes**\n\n")
		}
		fmt.Fprintf(&b, "- %s\n", plain(oneLine(n, 300)))
	}
	if b.Len() > detailsBytes {
		return strings.ToValidUTF8(b.String()[:detailsBytes-8], "") + "\n\n…\n"
	}
	return b.String()
}

// headline is the state of a release in a few words.
func headline(s release.Status) string {
	switch {
	case s.Outcome != "":
		return string(s.Outcome)
	case s.Queue != "":
		return phase(s.Phase, s.Environment) + " (" + plain(s.Queue) + ")"
	}
	return phase(s.Phase, s.Environment)
}

func detailsCause(b *strings.Builder, s release.Status) {
	if s.Cause == nil {
		return
	}
	fmt.Fprintf(b, "\n**Why:** %s\n", plain(oneLine(s.Cause.Message, 600)))
	for i, f := range s.Cause.Failures {
		if i == 10 {
			fmt.Fprintf(b, "- … and %d more\n", len(s.Cause.Failures)-i)
			return
		}
		fmt.Fprintf(b, "- %s\n", plain(oneLine(f.Error(), 400)))
	}
}

func detailsGate(b *strings.Builder, s release.Status) {
	g := *s.Gate
	fmt.Fprintf(b, "\n**%s waits for %s**", plain(g.Environment), count(g.Approvals, "approval"))
	if len(g.Approved) > 0 {
		fmt.Fprintf(b, ", %d given (%s)", len(g.Approved), plain(strings.Join(g.Approved, ", ")))
	}
	if !g.Until.IsZero() {
		fmt.Fprintf(b, ", until %s", g.Until.UTC().Format(time.DateTime+" UTC"))
	}
	fmt.Fprintf(b, ". Plan `%s`.\n\n", g.Plan)
	for _, why := range g.Because {
		fmt.Fprintf(b, "Asked because %s.\n\n", plain(oneLine(why, 300)))
	}
	if s.Plan != nil {
		if lines := lineageLines(*s.Plan); len(lines) > 0 {
			for _, line := range lines {
				fmt.Fprintf(b, "- %s\n", plain(oneLine(line, 300)))
			}
			b.WriteString("\n")
		}
		for i, line := range order(*s.Plan) {
			fmt.Fprintf(b, "%d. %s\n", i+1, plain(line))
		}
		b.WriteString("\n")
		for i, note := range planNotes(*s.Plan) {
			if i == 0 {
				b.WriteString("To know before saying yes:\n\n")
			}
			fmt.Fprintf(b, "- %s\n", plain(oneLine(note, 300)))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "In a terminal: `release approve %s` or `release reject %s --reason …`.\n\n", Ref(s.ID), Ref(s.ID))
	fmt.Fprintf(b, "Here: send the signal `%s` or `%s` with this input, and your name in `by` (without one it does not count):\n\n", release.ApproveSignal, release.RejectSignal)
	fmt.Fprintf(b, "```json\n%s\n```\n", SignalJSON(g.Plan))
}

// SignalJSON is the input of the signals approve and reject for one plan. The
// name is left to be written: a decision by nobody does not count.
func SignalJSON(hash string) string {
	doc, _ := json.Marshal(struct { // strings always marshal
		By     string `json:"by"`
		Reason string `json:"reason"`
		Plan   string `json:"plan"`
	}{Plan: hash})
	return string(doc)
}

func detailsHeld(b *strings.Builder, id string, h release.Held) {
	fmt.Fprintf(b, "\n**A person is needed:** %s\n\n", plain(oneLine(h.Why, 600)))
	for i, m := range h.Machines {
		if i == detailsMachines {
			fmt.Fprintf(b, "- … and %d more\n", len(h.Machines)-i)
			break
		}
		fmt.Fprintf(b, "- %s\n", plain(oneLine(m, 150)))
	}
	b.WriteString("\nChoices:\n\n")
	for _, c := range h.Choices {
		fmt.Fprintf(b, "- `%s`: %s\n", c, meaning(c))
	}
	fmt.Fprintf(b, "\nIn a terminal: `release decide %s %s`. Here: send the rollout's workflow the signal `%s` with a choice, and your name in `by`:\n\n", Ref(id), firstChoice(h), release.AnswerSignal)
	fmt.Fprintf(b, "```json\n{\"choice\":\"%s\",\"by\":\"\",\"reason\":\"\"}\n```\n", firstChoice(h))
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
		fmt.Fprintf(b, "- %s UTC, by %s: %s\n", g.At.UTC().Format(time.TimeOnly), g.Door, plain(oneLine(decision(g), 300)))
	}
}

func detailsTargets(b *strings.Builder, environments []release.EnvironmentStatus) {
	rows := 0
	for _, e := range environments {
		if len(e.Targets) == 0 && e.Outcome == "" {
			continue
		}
		fmt.Fprintf(b, "\n**%s**", plain(e.Name))
		if e.Outcome != "" {
			fmt.Fprintf(b, " — %s", e.Outcome)
		}
		b.WriteString("\n")
		if len(e.Targets) > 0 {
			b.WriteString("\n| App | Machine | Group | Region | State | Progress | Image |\n|---|---|---|---|---|---|---|\n")
		}
		more := 0
		for _, t := range e.Targets {
			if len(t.Machines) == 0 {
				fmt.Fprintf(b, "| %s | – | | | | no machines | %s |\n", app(t), code(Digest(t.Image)))
			}
			for _, m := range t.Machines {
				if rows++; rows > detailsMachines {
					more++
					continue
				}
				fmt.Fprintf(b, "| %s | `%s` | %s | %s | %s | %s | %s |\n", app(t), machineName(m), plain(m.Group), plain(m.Region), m.State, progress(m), code(Digest(m.Image)))
			}
		}
		if more > 0 {
			fmt.Fprintf(b, "\n… and %s besides\n", count(more, "machine"))
		}
		for _, c := range e.Commands {
			fmt.Fprintf(b, "\n%s\n", plain(command(c)))
			if len(c.Log) > 0 {
				fmt.Fprintf(b, "\n```\n%s\n```\n", strings.ReplaceAll(strings.Join(c.Log, "\n"), "```", "'''"))
			}
		}
		for _, v := range e.Verdicts {
			fmt.Fprintf(b, "\n%s\n", plain(verdict(v)))
		}
	}
}

// app is a target's name in a table, with a link to where it is served.
func app(t release.TargetStatus) string {
	if t.URL == "" {
		return plain(t.Target.App)
	}
	return fmt.Sprintf("[%s](%s)", plain(t.Target.App), t.URL)
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

func code(text string) string {
	if text == "" {
		return "–"
	}
	return "`" + text + "`"
}

// planNotes are what a person should know of a plan, each with its app.
func planNotes(p release.Plan) (notes []string) {
	for _, t := range p.Targets {
		for _, n := range t.Notes {
			notes = append(notes, t.Target.App+": "+n)
		}
	}
	return notes
}

// plain is text that Markdown shows as it is.
func plain(text string) string { return unmarked.Replace(text) }

var unmarked = strings.NewReplacer("\n", " ", "|", "\\|", "<", "&lt;", "`", "'", "*", "\\*", "_", "\\_", "[", "\\[")

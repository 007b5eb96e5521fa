package view

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// Temporal accepts 20 kB of Markdown.
const (
	detailsBytes    = 20_000
	detailsMachines = 40
	detailsReviews  = 10 // the newest ones
	// detailsSteps is the largest number of steps of a plan that a workflow renders.
	// A workflow task must end within a second.
	detailsSteps     = 2000
	detailsPlanBytes = 9_000
)

// Details returns the Markdown that the Temporal UI shows for a running workflow: the
// phase, how to give the review or resolution that it waits for, and every machine.
// It uses no clock, so a workflow may call it.
func Details(s release.Status) string {
	plan := s.Plan // escaped by Plan, where it is shown
	s.Plan = nil
	s = escapeAll(s)
	s.Plan = plan
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", Markdown(headline(s)))
	if s.Revision.Commit != "" {
		word := "Revision"
		if s.Restores != nil {
			word = "Back to"
		}
		fmt.Fprintf(&b, "%s %s %s", word, Code(s.Revision.Short()), Markdown(oneLine(s.Revision.Subject, 120)))
		if removed := removedCommits(s); removed != "" {
			fmt.Fprintf(&b, " · %s", Markdown(oneLine(removed, 200)))
		}
	}
	if s.By != "" {
		fmt.Fprintf(&b, " · by %s", Markdown(s.By))
	}
	if !s.Since.IsZero() {
		fmt.Fprintf(&b, " · since %s", s.Since.UTC().Format(time.DateTime+" UTC"))
	}
	b.WriteString("\n")
	writeDetailsCause(&b, s)
	if s.Gate != nil {
		writeDetailsGate(&b, s)
	}
	if s.Held != nil {
		writeDetailsHeld(&b, s.ID, *s.Held)
	}
	if s.Outcome == "" && s.Gate == nil && s.Held == nil {
		fmt.Fprintf(&b, "\nRetries are listed on this page under **Pending Activities** and in `release status %s`, with the last error, the attempt and the time of the next one.\n", Ref(s.ID))
	}
	writeDetailsReviews(&b, s.Reviews)
	writeDetailsTargets(&b, s.Environments)
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

// headline returns the outcome or the phase of a release.
func headline(s release.Status) string {
	switch {
	case s.Outcome != "":
		return string(s.Outcome)
	case s.Queue != "":
		return phaseText(s.Phase, s.Environment) + " (" + QueueText(s) + ")"
	}
	return phaseText(s.Phase, s.Environment)
}

func writeDetailsCause(b *strings.Builder, s release.Status) {
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

func writeDetailsGate(b *strings.Builder, s release.Status) {
	g := *s.Gate
	fmt.Fprintf(b, "\n**%s waits for %s**", Markdown(g.Environment), count(g.Approvals, "approval"))
	if len(g.Approved) > 0 {
		fmt.Fprintf(b, ", %d given (%s)", len(g.Approved), Markdown(strings.Join(g.Approved, ", ")))
	}
	if !g.Until.IsZero() {
		fmt.Fprintf(b, ", until %s", g.Until.UTC().Format(time.DateTime+" UTC"))
	}
	fmt.Fprintf(b, ". Plan %s.\n\n", Code(shortHash(g.Plan)))
	for _, why := range g.Reasons {
		fmt.Fprintf(b, "- %s\n", Markdown(oneLine(why, 300)))
	}
	b.WriteString("\n")
	fmt.Fprintf(b, "In a terminal: %s or %s.\n\n", Code("release approve "+Ref(s.ID)), Code("release reject "+Ref(s.ID)+" --reason …"))
	fmt.Fprintf(b, "Here: send the signal or update `%s` or `%s` with this input and your name in `by` (a review without a name is ignored):\n\n", release.ApproveSignal, release.RejectSignal)
	b.WriteString(codeBlock("json", ReviewJSON(g.Plan)) + "\n")
	if s.Plan != nil {
		writeDetailsCommits(b, s.Plan.Lineage)
		writeDetailsPlan(b, s.ID, *s.Plan)
	}
}

// ReviewJSON returns the input of approve and reject for one plan. The reviewer has
// to fill in the name: a review without one is ignored.
func ReviewJSON(hash string) string {
	doc, _ := json.MarshalIndent(struct { // strings always marshal
		By     string `json:"by"`
		Reason string `json:"reason"`
		Plan   string `json:"plan"`
	}{Plan: shortHash(hash)}, "", "  ")
	return string(doc)
}

// writeDetailsCommits lists the commits that the plan adds and removes.
func writeDetailsCommits(b *strings.Builder, l release.Lineage) {
	lists, reason := commitLists(l)
	if reason != "" {
		fmt.Fprintf(b, "%s\n\n", Markdown(reason))
	}
	for _, list := range lists {
		fmt.Fprintf(b, "**%s**\n\n", Markdown(list.title))
		for _, c := range list.newest[:min(len(list.newest), detailsMachines)] {
			fmt.Fprintf(b, "- %s %s · %s\n", Code(c.Short()), Markdown(oneLine(c.Subject, 100)), Markdown(oneLine(c.Author, 60)))
		}
		if n := list.total - min(len(list.newest), detailsMachines); n > 0 {
			fmt.Fprintf(b, "- … and %d more\n", n)
		}
		b.WriteString("\n")
	}
}

// writeDetailsPlan writes the plan as the command line shows it, cut if it is too long.
func writeDetailsPlan(b *strings.Builder, id string, p release.Plan) {
	if n := len(p.Steps()); n > detailsSteps {
		fmt.Fprintf(b, "The plan has %d steps, too many to show here. To see it: %s.\n", n, Code("release approve "+Ref(id)))
		return
	}
	text := Plan(p, Style{})
	if len(text) > detailsPlanBytes {
		end := strings.LastIndexByte(text[:detailsPlanBytes], '\n')
		text = text[:max(0, end)] + fmt.Sprintf("\n… and %s more: release approve %s", count(strings.Count(text[max(0, end):], "\n")-1, "line"), Ref(id))
	}
	b.WriteString(codeBlock("", text))
}

func writeDetailsHeld(b *strings.Builder, id string, h release.Hold) {
	fmt.Fprintf(b, "\n**Held, needs a resolution:** %s\n\n", Markdown(oneLine(h.Why, 600)))
	for i, m := range h.Machines {
		if i == detailsMachines {
			fmt.Fprintf(b, "- … and %d more\n", len(h.Machines)-i)
			break
		}
		fmt.Fprintf(b, "- %s\n", Markdown(oneLine(m, 150)))
	}
	b.WriteString("\nChoices:\n\n")
	for _, c := range h.Choices {
		fmt.Fprintf(b, "- %s: %s\n", Code(string(c)), choiceText(c))
	}
	fmt.Fprintf(b, "\nIn a terminal: %s. Here: send this workflow the signal or update `%s` with a choice and your name in `by`:\n\n", Code(fmt.Sprintf("release resolve %s %s", Ref(id), firstChoice(h))), release.ResolveSignal)
	b.WriteString(codeBlock("json", fmt.Sprintf("{\n  \"choice\": \"%s\",\n  \"by\": \"\",\n  \"reason\": \"\",\n  \"hold\": %d\n}", firstChoice(h), h.Number)))
}

func firstChoice(h release.Hold) release.Choice {
	if len(h.Choices) == 0 {
		return release.ChoiceRetry
	}
	return h.Choices[0]
}

func writeDetailsReviews(b *strings.Builder, given []release.ReceivedReview) {
	older := max(0, len(given)-detailsReviews)
	for i, g := range given[older:] {
		if i == 0 {
			b.WriteString("\n**Reviews**\n\n")
		}
		if i == 0 && older > 0 {
			fmt.Fprintf(b, "- … and %d earlier\n", older)
		}
		fmt.Fprintf(b, "- %s UTC, by %s: %s\n", g.At.UTC().Format(time.TimeOnly), Markdown(g.Via), Markdown(oneLine(reviewText(g), 300)))
	}
}

func writeDetailsTargets(b *strings.Builder, environments []release.EnvironmentStatus) {
	rows := 0
	for _, e := range environments {
		if len(e.Targets) == 0 && e.Outcome == "" {
			continue
		}
		fmt.Fprintf(b, "\n**%s**", Markdown(e.Name))
		if e.Outcome != "" {
			fmt.Fprintf(b, " — %s", Markdown(outcomeText(e)))
		}
		b.WriteString("\n")
		if len(e.Targets) > 0 {
			b.WriteString("\n| App | Machine | Group | Region | State | Progress | Image |\n|---|---|---|---|---|---|---|\n")
		}
		rows += writeMachineRows(b, e.Targets, detailsMachines-rows)
		writeDetailsResults(b, e)
	}
}

// writeMachineRows writes a table row per machine, up to a limit, and how many are left
// out. It returns the number of rows.
func writeMachineRows(b *strings.Builder, targets []release.TargetStatus, limit int) (rows int) {
	omitted := 0
	for _, t := range targets {
		if len(t.Machines) == 0 {
			fmt.Fprintf(b, "| %s | – | | | | no machines | %s |\n", targetLink(t), Code(Digest(t.Image)))
		}
		for _, m := range t.Machines {
			if rows == limit {
				omitted++
				continue
			}
			rows++
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", targetLink(t), Code(machineName(m)), Markdown(m.Group), Markdown(m.Region), Markdown(m.State), Markdown(progressText(m)), Code(Digest(m.Image)))
		}
	}
	if omitted > 0 {
		fmt.Fprintf(b, "\n… and %s\n", count(omitted, "more machine"))
	}
	return rows
}

// writeDetailsResults writes the commands, verdicts and warnings of an environment.
func writeDetailsResults(b *strings.Builder, e release.EnvironmentStatus) {
	for _, c := range e.Commands {
		fmt.Fprintf(b, "\n%s\n", Markdown(commandText(c)))
		if len(c.Log) > 0 {
			b.WriteString("\n" + codeBlock("", logText(c.Log)))
		}
	}
	for _, v := range foldVerdicts(e.Verdicts, false) {
		fmt.Fprintf(b, "\n%s\n", Markdown(v.line))
	}
	if n := len(e.Verdicts); n > 0 && !e.Verdicts[n-1].At.IsZero() {
		fmt.Fprintf(b, "\nVerified at %s.\n", e.Verdicts[n-1].At.UTC().Format(time.DateTime+" UTC"))
	}
	for _, w := range e.Warnings {
		fmt.Fprintf(b, "\n%s\n", Markdown(oneLine(w, 300)))
	}
}

// logText returns the lines of a log, escaped.
func logText(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(escapeLine(line) + "\n")
	}
	return b.String()
}

// targetLink returns the app of a target, linked to its URL if that is safe to link.
func targetLink(t release.TargetStatus) string {
	if !linkTarget.MatchString(t.URL) {
		return Markdown(t.Target.App)
	}
	return fmt.Sprintf("[%s](%s)", Markdown(t.Target.App), t.URL)
}

// progressText returns the progress of a machine, as a form of its verb if it has one.
func progressText(m release.MachineStatus) string {
	switch {
	case m.Progress == release.ProgressRunning:
		return ongoingVerb(m.Verb)
	case m.Progress == release.ProgressDone && m.Verb != "":
		return pastVerb(m.Verb)
	case m.Progress == release.ProgressFailed && m.Verb != "":
		return failedVerb(m.Verb)
	}
	return string(m.Progress)
}

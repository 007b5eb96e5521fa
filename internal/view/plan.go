package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// Plan is a plan as people read it: what becomes of each target, in which
// fields its config differs, and the waves in their order.
func Plan(p release.Plan, style Style) string {
	var b strings.Builder
	title := "Plan for " + p.Environment
	if p.Hash != "" {
		title += " " + p.Short()
	}
	b.WriteString(style.paint(bold, title) + "\n")
	for _, line := range lineageLines(p) {
		fmt.Fprintf(&b, "  %s %s\n", style.paint(yellow, "!"), line)
	}
	for _, t := range p.Targets {
		planTarget(&b, p, t, style)
	}
	if p.Empty() {
		b.WriteString("\nNothing to change: all of it runs already.\n")
		return b.String()
	}
	b.WriteString("\n" + style.paint(bold, "In this order") + "\n")
	for i, line := range order(p) {
		fmt.Fprintf(&b, "  %d. %s\n", i+1, line)
	}
	return b.String()
}

func planTarget(b *strings.Builder, p release.Plan, t release.TargetPlan, style Style) {
	if !t.Changed {
		fmt.Fprintf(b, "  %s %s\n", style.paint(dim, "="), style.paint(dim, t.Target.App+": nothing to change, "+count(len(t.Seen), "machine")))
		return
	}
	line := "  " + style.paint(yellow, "~") + " " + style.paint(bold, t.Target.App)
	if t.Strategy != "" {
		line += ", " + string(t.Strategy)
	}
	if t.FlyApp != "" {
		line += style.paint(dim, " ("+t.FlyApp+")")
	}
	b.WriteString(line + "\n")
	for _, change := range imageChanges(p, t) {
		fmt.Fprintf(b, "      image: %s\n", change)
	}
	for _, change := range changes(p, t.Target) {
		fmt.Fprintf(b, "      %s\n", change)
	}
	if len(t.Addresses) > 0 {
		fmt.Fprintf(b, "      IP addresses: %s (it has none yet)\n", strings.Join(t.Addresses, ", "))
	}
	for _, note := range t.Notes {
		fmt.Fprintf(b, "      %s %s\n", style.paint(yellow, "!"), note)
	}
}

// imageChanges says from which digests the target comes to which.
func imageChanges(p release.Plan, t release.TargetPlan) (lines []string) {
	for _, s := range p.Steps() {
		if s.Target != t.Target || s.To == "" || s.From == s.To || s.Verb == release.Run {
			continue
		}
		line := Digest(s.From) + " → " + Digest(s.To)
		if s.From == "" {
			line = Digest(s.To) + " (new machine)"
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// A Commit is a line of a history.
type Commit struct {
	Commit  string    `json:"commit"`
	Subject string    `json:"subject"`
	Author  string    `json:"author,omitempty"`
	Time    time.Time `json:"time,omitzero"`
}

// An Approval is all that a person should know before approving.
type Approval struct {
	Status release.Status
	// Running is the commit that the environment runs, "" if that is not known.
	Running string
	// Commits are those since Running; Dropped those of Running that the new
	// revision does not have.
	Commits, Dropped []Commit
	// Unknown says why the commits are not known.
	Unknown string
}

// Question shows what is approved: commits, digests, config, order, and what
// the environments before said.
func Question(a Approval, style Style) string {
	var b strings.Builder
	s := a.Status
	fmt.Fprintf(&b, "%s %s\n", style.paint(bold, fmt.Sprintf("%s to %s:", Ref(s.ID), s.Gate.Environment)), oneLine(s.Revision.Subject, 100))
	if s.By != "" {
		fmt.Fprintf(&b, "asked for by %s", s.By)
		if s.Revision.Author != "" {
			fmt.Fprintf(&b, ", written by %s", s.Revision.Author)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	a.commits(&b, style)
	if s.Plan != nil {
		b.WriteString("\n" + Plan(*s.Plan, style))
		fmt.Fprintf(&b, "  %s\n", style.paint(dim, touched(*s.Plan)))
	}
	for _, e := range s.Environments {
		for i, v := range e.Verdicts {
			if i == 0 {
				b.WriteString("\n" + style.paint(bold, "What "+e.Name+" said") + "\n")
			}
			fmt.Fprintf(&b, "  %s\n", verdict(v))
			for _, f := range v.Failures {
				fmt.Fprintf(&b, "    %s\n", oneLine(f.Error(), 300))
			}
		}
	}
	for _, why := range s.Gate.Because {
		fmt.Fprintf(&b, "\n%s asked because %s\n", style.paint(yellow, "!"), why)
	}
	if len(s.Gate.Approved) > 0 || s.Gate.Approvals > 1 {
		fmt.Fprintf(&b, "\n%d of %s%s\n", len(s.Gate.Approved), count(s.Gate.Approvals, "approval"), given(*s.Gate))
	}
	return b.String()
}

func (a Approval) commits(b *strings.Builder, style Style) {
	switch {
	case a.Unknown != "":
		fmt.Fprintf(b, "%s\n  not known: %s\n", style.paint(bold, "Commits"), a.Unknown)
		return
	case a.Running == "":
		b.WriteString("No release of this program runs there yet.\n")
		return
	}
	short := release.Revision{Commit: a.Running}.Short()
	b.WriteString(style.paint(bold, fmt.Sprintf("%s since %s, which runs there", count(len(a.Commits), "commit"), short)) + "\n")
	list(b, "  + ", a.Commits, style)
	if len(a.Dropped) > 0 {
		b.WriteString(style.paint(bold, fmt.Sprintf("%s that run there and are not in it", count(len(a.Dropped), "commit"))) + "\n")
		list(b, "  - ", a.Dropped, style)
	}
}

func list(b *strings.Builder, sign string, commits []Commit, style Style) {
	for i, c := range commits {
		if i == 30 {
			fmt.Fprintf(b, "    … and %d more\n", len(commits)-i)
			return
		}
		b.WriteString(style.line(cell{sign + c.Commit[:min(12, len(c.Commit))] + " ", dim}, cell{oneLine(c.Subject, 90), noHue}, cell{"  " + c.Author, dim}) + "\n")
	}
}

// touched counts the machines that a plan changes.
func touched(p release.Plan) string {
	seen := map[string]bool{}
	total := 0
	for _, s := range p.Steps() {
		if s.Verb != release.Run {
			seen[s.Target.App+"/"+s.Machine] = true
		}
	}
	for _, t := range p.Targets {
		total += len(t.Seen)
	}
	return fmt.Sprintf("%s changed or created; %s there now", count(len(seen), "machine"), count(total, "machine"))
}

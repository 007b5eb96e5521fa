package view

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/microbima/release/release"
)

// commitsShown is how many commits are listed unless all are asked for.
const commitsShown = 10

// Question shows what a person decides on: commits, digests, config, order, and
// what verifying the environments before found, and when. What is equal is said
// once; style.Whole asks for all of it.
func Question(s release.Status, now time.Time, style Style) string {
	s = clean(s)
	text := question(s, now, style)
	if whole := style; !style.Whole {
		if whole.Whole = true; question(s, now, whole) != text {
			text += "\n" + style.paint(dim, fmt.Sprintf("Each app, machine and value by itself: release approve %s --details", Ref(s.ID))) + "\n"
		}
	}
	return text
}

func question(s release.Status, now time.Time, style Style) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", style.paint(bold, fmt.Sprintf("%s to %s:", Ref(s.ID), s.Gate.Environment)), about(s, 200))
	if s.By != "" {
		fmt.Fprintf(&b, "asked for by %s", s.By)
		if s.Revision.Author != "" {
			fmt.Fprintf(&b, ", written by %s", s.Revision.Author)
		}
		b.WriteString("\n")
	}
	for _, why := range s.Gate.Because {
		b.WriteString(style.wrap(style.paint(yellow, "!")+" ", oneLine(why, 300)))
	}
	b.WriteString("\n")
	if s.Plan != nil {
		writeCommits(&b, s.Plan.Lineage, style)
		b.WriteString("\n" + Plan(*s.Plan, style))
		fmt.Fprintf(&b, "  %s\n", style.paint(dim, touched(*s.Plan)))
	}
	for _, e := range s.Environments {
		writeVerified(&b, e, now, style)
	}
	if len(s.Gate.Approved) > 0 || s.Gate.Approvals > 1 {
		fmt.Fprintf(&b, "\n%d of %s%s\n", len(s.Gate.Approved), count(s.Gate.Approvals, "approval"), given(*s.Gate))
	}
	return b.String()
}

// commitsOf says which commits a plan brings and which it takes away: for each a
// heading and the newest of them. Where that is not known it says why.
func commitsOf(l release.Lineage) (parts []commitList, otherwise string) {
	switch {
	case l.Relation == release.UnknownRelation:
		return nil, "The commits are not known: " + oneLine(l.Why, 300) + "."
	case l.Relation == "" && (l.Why != "" || len(l.Running) == 0):
		return nil, sentence(l.TakenAway())
	case len(l.Running) == 0:
		return nil, "No release of this program runs there yet."
	case l.Adds+l.Takes == 0:
		return nil, "No commit more or less than what runs there."
	}
	var short []string
	for _, c := range l.Running {
		short = append(short, release.Revision{Commit: c}.Short())
	}
	if l.Adds > 0 {
		parts = append(parts, commitList{"+", fmt.Sprintf("%s since %s, which runs there", count(l.Adds, "commit"), strings.Join(short, " and ")), l.Added, l.Adds})
	}
	if l.Takes > 0 {
		of := "this revision"
		if l.Relation == "" {
			of = "the revision that comes back"
		}
		parts = append(parts, commitList{"-", count(l.Takes, "commit") + " taken away: in what runs there, not in " + of, l.Taken, l.Takes})
	}
	return parts, ""
}

// sentence returns words as a sentence.
func sentence(words string) string {
	first, size := utf8.DecodeRuneInString(words)
	if size == 0 {
		return ""
	}
	return string(unicode.ToUpper(first)) + oneLine(words[size:], 300) + "."
}

type commitList struct {
	sign, title string
	newest      []release.Revision
	total       int
}

func writeCommits(b *strings.Builder, l release.Lineage, style Style) {
	parts, otherwise := commitsOf(l)
	if otherwise != "" {
		b.WriteString(style.wrap("", otherwise))
	}
	for _, part := range parts {
		b.WriteString(style.wrap("", style.paint(bold, part.title)))
		for i, c := range part.newest {
			if i == commitsShown && !style.Whole {
				break
			}
			b.WriteString(style.line(cell{"  " + part.sign + " " + c.Short() + " ", dim}, cell{oneLine(c.Subject, 90), noHue}, cell{"  " + c.Author, dim}) + "\n")
		}
		shown := len(part.newest)
		if !style.Whole {
			shown = min(shown, commitsShown)
		}
		if part.total > shown {
			fmt.Fprintf(b, "    … and %d more\n", part.total-shown)
		}
	}
}

// writeVerified writes what verifying an environment found and how long ago. Of
// one that was not changed it says that nothing was verified.
func writeVerified(b *strings.Builder, e release.EnvironmentStatus, now time.Time, style Style) {
	if e.Outcome == "" {
		return
	}
	b.WriteString("\n" + style.paint(bold, "In "+e.Name) + ": " + string(e.Outcome))
	if len(e.Verdicts) == 0 {
		b.WriteString("; this release verified nothing there\n")
		return
	}
	b.WriteString(verifiedAgo(e.Verdicts, now) + "\n")
	for _, v := range folded(e.Verdicts, style.Whole) {
		b.WriteString(style.wrap("  ", v.line))
		for _, f := range v.failures {
			fmt.Fprintf(b, "    %s\n", oneLine(f.Error(), 300))
		}
	}
}

// verifiedAgo says how old verdicts are.
func verifiedAgo(verdicts []release.Verdict, now time.Time) string {
	oldest := verdicts[0].At
	for _, v := range verdicts {
		if v.At.Before(oldest) {
			oldest = v.At
		}
	}
	if oldest.IsZero() {
		return ""
	}
	return ", verified " + Took(now.Sub(oldest)) + " ago"
}

type verdictLine struct {
	line     string
	health   release.Health
	failures []release.Failure
}

// folded are verdicts as lines: equal ones without failures are one.
func folded(verdicts []release.Verdict, each bool) (lines []verdictLine) {
	said := map[string][]string{}
	for _, v := range verdicts {
		said[found(v)] = append(said[found(v)], v.Target.App)
	}
	var done []string
	for _, v := range verdicts {
		names := said[found(v)]
		switch {
		case each || len(v.Failures) > 0 || len(names) < 4:
			lines = append(lines, verdictLine{verdict(v), v.Health, v.Failures})
		case !slices.Contains(done, found(v)):
			done = append(done, found(v))
			who := strings.Join(names, ", ") + fmt.Sprintf(" (%d apps)", len(names))
			if len(names) == len(verdicts) {
				who = fmt.Sprintf("each of the %d apps", len(names))
			}
			lines = append(lines, verdictLine{line: who + ": " + found(v), health: v.Health})
		}
	}
	return lines
}

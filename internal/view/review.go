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

// commitsShown is how many commits are listed unless Style.Whole is set.
const commitsShown = 10

// Review shows what a reviewer approves or rejects: commits, digests, config changes,
// waves, and the verdicts of the environments before, with their age. Equal parts are
// shown together; style.Whole shows each.
func Review(s release.Status, now time.Time, style Style) string {
	s = escapeAll(s)
	text := renderReview(s, now, style)
	if whole := style; !style.Whole {
		if whole.Whole = true; renderReview(s, now, whole) != text {
			text += "\n" + style.paint(dim, fmt.Sprintf("To show each app, machine and value: release approve %s --details", Ref(s.ID))) + "\n"
		}
	}
	return text
}

func renderReview(s release.Status, now time.Time, style Style) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", style.paint(bold, fmt.Sprintf("%s to %s:", Ref(s.ID), s.Gate.Environment)), subjectText(s, 200))
	if s.By != "" {
		fmt.Fprintf(&b, "requested by %s", s.By)
		if s.Revision.Author != "" {
			fmt.Fprintf(&b, ", written by %s", s.Revision.Author)
		}
		b.WriteString("\n")
	}
	for _, why := range s.Gate.Reasons {
		b.WriteString(style.wrap(style.paint(yellow, "!")+" ", oneLine(why, 300)))
	}
	b.WriteString("\n")
	if s.Plan != nil {
		writeCommits(&b, s.Plan.Lineage, style)
		b.WriteString("\n" + Plan(*s.Plan, style))
		fmt.Fprintf(&b, "  %s\n", style.paint(dim, machineTotals(*s.Plan)))
	}
	for _, e := range s.Environments {
		writeVerified(&b, e, now, style)
	}
	if len(s.Gate.Approved) > 0 || s.Gate.Approvals > 1 {
		fmt.Fprintf(&b, "\n%d of %s%s\n", len(s.Gate.Approved), count(s.Gate.Approvals, "approval"), approvedBy(*s.Gate))
	}
	return b.String()
}

// commitLists returns the commits that a plan adds and those that it removes. If there
// are none, or they are unknown, it returns a sentence with the reason instead.
func commitLists(l release.Lineage) (lists []commitList, reason string) {
	switch {
	case l.Relation == release.UnknownRelation:
		return nil, "The commits are unknown: " + oneLine(l.Why, 300) + "."
	case l.Relation == "" && (l.Why != "" || len(l.Running) == 0):
		return nil, toSentence(l.DescribeRemoved())
	case len(l.Running) == 0:
		return nil, "No release of this program runs there yet."
	case l.AddedCount+l.RemovedCount == 0:
		return nil, "The running revision has the same commits."
	}
	var short []string
	for _, c := range l.Running {
		short = append(short, release.Revision{Commit: c}.Short())
	}
	if l.AddedCount > 0 {
		lists = append(lists, commitList{
			sign: "+", title: fmt.Sprintf("%s since %s, which runs there", count(l.AddedCount, "commit"), strings.Join(short, " and ")), newest: l.Added, total: l.AddedCount,
		})
	}
	if l.RemovedCount > 0 {
		of := "this revision"
		if l.Relation == "" {
			of = "the restored one"
		}
		lists = append(lists, commitList{
			sign: "-", title: count(l.RemovedCount, "commit") + " taken away: in the running revision, not in " + of, newest: l.Removed, total: l.RemovedCount,
		})
	}
	return lists, ""
}

// toSentence returns text with a capital letter and a full stop.
func toSentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return ""
	}
	return string(unicode.ToUpper(first)) + oneLine(text[size:], 300) + "."
}

type commitList struct {
	sign, title string
	newest      []release.Revision
	total       int
}

func writeCommits(b *strings.Builder, l release.Lineage, style Style) {
	lists, reason := commitLists(l)
	if reason != "" {
		b.WriteString(style.wrap("", reason))
	}
	for _, list := range lists {
		b.WriteString(style.wrap("", style.paint(bold, list.title)))
		for i, c := range list.newest {
			if i == commitsShown && !style.Whole {
				break
			}
			b.WriteString(style.line(cell{"  " + list.sign + " " + c.Short() + " ", dim}, cell{oneLine(c.Subject, 90), noColour}, cell{"  " + c.Author, dim}) + "\n")
		}
		shown := len(list.newest)
		if !style.Whole {
			shown = min(shown, commitsShown)
		}
		if list.total > shown {
			fmt.Fprintf(b, "    … and %d more\n", list.total-shown)
		}
	}
}

// writeVerified writes the outcome of an environment, its verdicts and their age. An
// environment that was not changed has no verdicts.
func writeVerified(b *strings.Builder, e release.EnvironmentStatus, now time.Time, style Style) {
	if e.Outcome == "" {
		return
	}
	b.WriteString("\n" + style.paint(bold, "In "+e.Name) + ": " + string(e.Outcome))
	if len(e.Verdicts) == 0 {
		b.WriteString("; this release verified nothing there\n")
		return
	}
	b.WriteString(verdictAge(e.Verdicts, now) + "\n")
	for _, v := range foldVerdicts(e.Verdicts, style.Whole) {
		b.WriteString(style.wrap("  ", v.line))
		for _, f := range v.failures {
			fmt.Fprintf(b, "    %s\n", oneLine(f.Error(), 300))
		}
	}
}

// verdictAge returns the age of the oldest verdict as text, or "" if unknown.
func verdictAge(verdicts []release.Verdict, now time.Time) string {
	oldest := verdicts[0].At
	for _, v := range verdicts {
		if v.At.Before(oldest) {
			oldest = v.At
		}
	}
	if oldest.IsZero() {
		return ""
	}
	return ", verified " + Duration(now.Sub(oldest)) + " ago"
}

type verdictLine struct {
	line     string
	health   release.Health
	failures []release.Failure
}

// foldVerdicts returns the lines of verdicts. Four or more equal ones without failures
// share a line, unless each is true.
func foldVerdicts(verdicts []release.Verdict, each bool) (lines []verdictLine) {
	apps := map[string][]string{}
	for _, v := range verdicts {
		apps[verdictDetail(v)] = append(apps[verdictDetail(v)], v.Target.App)
	}
	var done []string
	for _, v := range verdicts {
		names := apps[verdictDetail(v)]
		switch {
		case each || len(v.Failures) > 0 || len(names) < 4:
			lines = append(lines, verdictLine{verdictText(v), v.Health, v.Failures})
		case !slices.Contains(done, verdictDetail(v)):
			done = append(done, verdictDetail(v))
			subject := strings.Join(names, ", ") + fmt.Sprintf(" (%d apps)", len(names))
			if len(names) == len(verdicts) {
				subject = fmt.Sprintf("each of the %d apps", len(names))
			}
			lines = append(lines, verdictLine{line: subject + ": " + verdictDetail(v), health: v.Health})
		}
	}
	return lines
}

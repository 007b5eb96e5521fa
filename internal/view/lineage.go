package view

import (
	"fmt"
	"strings"

	"github.com/microbima/release/release"
)

// lineageLines returns warnings about the revision of a plan: how it relates to
// the running one, unless it is a descendant, and which environments it skipped.
func lineageLines(p release.Plan) (lines []string) {
	if text := p.Lineage.String(); text != "" {
		lines = append(lines, "this revision "+text)
	}
	for _, s := range p.Skipped {
		lines = append(lines, fmt.Sprintf("not verified in %s, which was skipped by %s: %s", s.Environment, s.By, s.Reason))
	}
	return lines
}

// EarlierEnvironment shows what a release changes in an environment before the
// requested one. It returns "" if that environment runs the revision already.
func EarlierEnvironment(environment string, l release.Lineage, style Style) string {
	environment, l = escapeAll(environment), escapeAll(l)
	if l.Relation == release.Same {
		return ""
	}
	var b strings.Builder
	b.WriteString(style.paint(bold, fmt.Sprintf("The release changes %s first", environment)) + "\n")
	if text := l.String(); text != "" {
		b.WriteString(style.wrap("  "+style.paint(yellow, "!")+" ", "this revision "+text))
	}
	writeCommits(&b, l, style)
	if l.Relation != release.Forward {
		fmt.Fprintf(&b, "To skip %s: release start --skip-env %[1]s --reason …\n", environment)
	}
	return b.String() + "\n"
}

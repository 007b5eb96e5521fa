package view

import (
	"fmt"
	"strings"

	"github.com/microbima/release/release"
)

// lineageLines says how a plan's revision relates to what its environment runs,
// where a person should know, and which environments it did not go through.
func lineageLines(p release.Plan) (lines []string) {
	if said := p.Lineage.String(); said != "" {
		lines = append(lines, "this revision "+said)
	}
	for _, s := range p.Skipped {
		lines = append(lines, fmt.Sprintf("not verified in %s, which was skipped by %s: %s", s.Environment, s.By, s.Reason))
	}
	return lines
}

// Before says what a release does to an environment that it goes through first,
// or "" if that runs the revision already.
func Before(environment string, l release.Lineage, style Style) string {
	environment, l = clean(environment), clean(l)
	if l.Relation == release.Same {
		return ""
	}
	var b strings.Builder
	b.WriteString(style.paint(bold, fmt.Sprintf("The release changes %s first", environment)) + "\n")
	if said := l.String(); said != "" {
		b.WriteString(style.wrap("  "+style.paint(yellow, "!")+" ", "this revision "+said))
	}
	writeCommits(&b, l, style)
	if l.Relation != release.Forward {
		fmt.Fprintf(&b, "`release start --skip-env %s --reason …` leaves it out\n", environment)
	}
	return b.String() + "\n"
}

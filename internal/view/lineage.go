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
		lines = append(lines, taken(p.Lineage)...)
	}
	for _, s := range p.Skipped {
		lines = append(lines, fmt.Sprintf("not verified in %s, which was skipped by %s: %s", s.Environment, s.By, s.Reason))
	}
	return lines
}

// taken lists the commits that a lineage takes away.
func taken(l release.Lineage) (lines []string) {
	if l.Relation == release.Backward {
		return nil
	}
	for _, c := range l.Taken {
		lines = append(lines, "- "+oneLine(c.Label(), 100))
	}
	if more := l.Takes - len(l.Taken); more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", more))
	}
	return lines
}

// Before says what a release does to an environment that it goes through first,
// or "" if that runs the revision already.
func Before(environment string, l release.Lineage, style Style) string {
	if l.Relation == release.Same {
		return ""
	}
	var b strings.Builder
	b.WriteString(style.paint(bold, fmt.Sprintf("The release changes %s first", environment)) + "\n")
	if said := l.String(); said != "" {
		fmt.Fprintf(&b, "  %s this revision %s\n", style.paint(yellow, "!"), said)
	}
	for _, line := range taken(l) {
		fmt.Fprintf(&b, "      %s\n", line)
	}
	if l.Relation != release.Forward {
		fmt.Fprintf(&b, "  `release start --skip-env %s --reason …` leaves it out\n", environment)
	}
	return b.String()
}

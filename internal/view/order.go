package view

import (
	"fmt"
	"strings"

	"github.com/microbima/release/release"
)

// order says what a plan does, a line per wave.
func order(p release.Plan) (lines []string) {
	for _, w := range p.Waves {
		var parts []string
		for _, l := range w.Lanes {
			parts = append(parts, lane(l)...)
		}
		line := strings.Join(parts, "; ")
		if !says(line, w.Title) {
			line = w.Title + ": " + line
		}
		if w.Settle > 0 {
			line += fmt.Sprintf(", then %s to settle", w.Settle)
		}
		if w.Last {
			line += ", once all is verified and baked"
		}
		lines = append(lines, line)
	}
	return lines
}

// lane says what is done in one group of one target, a part for each verb.
func lane(l release.Lane) (parts []string) {
	type what struct {
		verb   release.Verb
		target release.Target
		group  string
	}
	var kinds []what
	machines := map[what]int{}
	for _, s := range l.Steps {
		k := what{s.Verb, s.Target, s.Group}
		if machines[k] == 0 {
			kinds = append(kinds, k)
		}
		machines[k]++
	}
	for _, k := range kinds {
		if k.verb == release.Run {
			parts = append(parts, "run release command of "+k.target.App)
			continue
		}
		part := fmt.Sprintf("%s %s of %s", k.verb, count(machines[k], "machine"), k.target.App)
		if k.group != "" && k.group != "app" {
			part += " (" + k.group + ")"
		}
		if machines[k] > 1 {
			part += fmt.Sprintf(", %d at once", max(1, min(l.AtOnce, machines[k])))
		}
		parts = append(parts, part)
	}
	return parts
}

// says whether each part of a wave's title is in the line already: "update"
// adds nothing to "update 2 machines".
func says(line, title string) bool {
	for part := range strings.SplitSeq(title, ", ") {
		if !strings.Contains(line, part) {
			return false
		}
	}
	return true
}

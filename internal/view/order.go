package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// order says what a plan does, a line per wave. What is done alike in several
// targets is said once, with their names. With whole each machine is named.
func order(p release.Plan, whole bool) (lines []string) {
	var all []string // the apps that change
	for _, t := range p.Targets {
		if t.Changed {
			all = append(all, t.Target.App)
		}
	}
	for _, w := range p.Waves {
		line := strings.Join(waveParts(w, all, whole), "; ")
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

// work is what is done in one group of some targets.
type work struct {
	verb     release.Verb
	group    string
	machines int
	atOnce   int
	named    string // the machines, where each is named
}

// waveParts says what is done in a wave, a part for each kind of work.
func waveParts(w release.Wave, all []string, whole bool) (parts []string) {
	var kinds []work
	apps := map[work][]string{}
	for _, l := range w.Lanes {
		for _, k := range laneWork(l, whole) {
			if len(apps[k.work]) == 0 {
				kinds = append(kinds, k.work)
			}
			apps[k.work] = append(apps[k.work], k.app)
		}
	}
	for _, k := range kinds {
		parts = append(parts, k.say(apps[k], all))
	}
	return parts
}

type appWork struct {
	work
	app string
}

// laneWork is what is done in one lane: for each verb and target.
func laneWork(l release.Lane, whole bool) (found []appWork) {
	for _, s := range l.Steps {
		i := slices.IndexFunc(found, func(k appWork) bool {
			return k.verb == s.Verb && k.group == s.Group && k.app == s.Target.App
		})
		if i < 0 {
			found, i = append(found, appWork{work{verb: s.Verb, group: s.Group}, s.Target.App}), len(found)
		}
		found[i].machines++
		if whole && s.Verb != release.Run {
			found[i].named += " " + s.Machine
		}
	}
	for i := range found {
		found[i].atOnce = max(1, min(l.AtOnce, found[i].machines))
	}
	return found
}

func (k work) say(apps, all []string) string {
	where := strings.Join(apps, ", ")
	if n := len(apps); n > 3 && slices.Equal(slices.Sorted(slices.Values(apps)), slices.Sorted(slices.Values(all))) {
		where = fmt.Sprintf("all %d apps that change", n)
	}
	if k.verb == release.Run {
		return "run release command of " + where
	}
	part := fmt.Sprintf("%s %s of ", k.verb, count(k.machines, "machine"))
	if len(apps) > 1 {
		part += "each of "
	}
	part += where
	if k.group != "" && k.group != "app" {
		part += " (" + k.group + ")"
	}
	if k.machines > 1 {
		part += fmt.Sprintf(", %d at once", k.atOnce)
	}
	if k.named != "" {
		part += ":" + k.named
	}
	return part
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

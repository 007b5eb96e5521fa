package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// waveLines returns a line per wave of a plan. Equal work in several targets is
// one part of the line, with the names of their apps. Where whole is true each
// machine is named.
func waveLines(p release.Plan, whole bool) (lines []string) {
	var changed []string
	for _, t := range p.Targets {
		if t.Changed {
			changed = append(changed, t.Target.App)
		}
	}
	for _, w := range p.Waves {
		line := strings.Join(waveTasks(w, changed, whole), "; ")
		if !containsTitle(line, w.Title) {
			line = w.Title + ": " + line
		}
		if w.Settle > 0 {
			line += fmt.Sprintf(", then wait %s", w.Settle)
		}
		if w.Irreversible {
			line += ", after verify and bake"
		}
		lines = append(lines, line)
	}
	return lines
}

// A laneTask is one verb on the machines of one group.
type laneTask struct {
	verb         release.Verb
	group        string
	machines     int
	atOnce       int
	machineNames string // empty unless each machine is named
}

type appTask struct {
	laneTask
	app string
}

// waveTasks describes the work of a wave, equal tasks of several apps as one.
func waveTasks(w release.Wave, changed []string, whole bool) (parts []string) {
	var tasks []laneTask
	apps := map[laneTask][]string{}
	for _, l := range w.Lanes {
		for _, t := range laneTasks(l, whole) {
			if len(apps[t.laneTask]) == 0 {
				tasks = append(tasks, t.laneTask)
			}
			apps[t.laneTask] = append(apps[t.laneTask], t.app)
		}
	}
	for _, t := range tasks {
		parts = append(parts, t.describe(apps[t], changed))
	}
	return parts
}

// laneTasks returns the tasks of one lane: one per verb, group and app.
func laneTasks(l release.Lane, whole bool) (tasks []appTask) {
	for _, s := range l.Steps {
		i := slices.IndexFunc(tasks, func(t appTask) bool {
			return t.verb == s.Verb && t.group == s.Group && t.app == s.Target.App
		})
		if i < 0 {
			i = len(tasks)
			tasks = append(tasks, appTask{laneTask: laneTask{verb: s.Verb, group: s.Group}, app: s.Target.App})
		}
		tasks[i].machines++
		if whole && s.Verb != release.Run {
			tasks[i].machineNames += " " + s.Machine
		}
	}
	for i := range tasks {
		tasks[i].atOnce = max(1, min(l.MaxConcurrent, tasks[i].machines))
	}
	return tasks
}

// describe returns a task as text, for the apps that have it out of the changed ones.
func (t laneTask) describe(apps, changed []string) string {
	names := strings.Join(apps, ", ")
	if n := len(apps); n > 3 && slices.Equal(slices.Sorted(slices.Values(apps)), slices.Sorted(slices.Values(changed))) {
		names = fmt.Sprintf("the %d apps that change", n)
	}
	if t.verb == release.Run {
		return "run release command of " + names
	}
	text := fmt.Sprintf("%s %s of ", t.verb, machineCount(t.machines))
	if len(apps) > 1 {
		text += "each of "
	}
	text += names
	if t.group != "" && t.group != "app" {
		text += " (" + t.group + ")"
	}
	if t.machines > 1 {
		text += fmt.Sprintf(", %d at a time", t.atOnce)
	}
	if t.machineNames != "" {
		text += ":" + t.machineNames
	}
	return text
}

// containsTitle reports whether line has each part of a wave's title: the title
// "update" adds nothing to "update 2 machines".
func containsTitle(line, title string) bool {
	for part := range strings.SplitSeq(title, ", ") {
		if !strings.Contains(line, part) {
			return false
		}
	}
	return true
}

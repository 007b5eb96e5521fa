package view

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// whoNames is how many machines are named where a difference is of some only.
const whoNames = 3

// A kind is one difference, and the machines that it is of.
type kind struct {
	lines    []string
	machines []string
}

// configChanges are, a line each, the differences in config of one target's
// steps: of a machine that is updated from what it has; of one that is created
// from the machine that it succeeds, else all that it gets. Equal differences are
// said once, with the machines that they are of where there are others.
func configChanges(p release.Plan, target release.Target, whole bool) (lines []string) {
	steps := stepsOf(p, target)
	var kinds []kind
	for _, s := range steps {
		if s.Verb == release.Run {
			lines = append(lines, commandChanges(s, steps, whole)...)
			continue
		}
		said := stepChanges(s, steps, whole)
		if len(said) == 0 {
			continue
		}
		i := slices.IndexFunc(kinds, func(k kind) bool { return slices.Equal(k.lines, said) })
		if i < 0 {
			kinds, i = append(kinds, kind{lines: said}), len(kinds)
		}
		kinds[i].machines = append(kinds[i].machines, cleanLine(s.Machine))
	}
	for _, k := range kinds {
		if len(kinds) == 1 {
			return append(lines, k.lines...)
		}
		lines = append(lines, named(k.machines, whole)+":")
		for _, line := range k.lines {
			lines = append(lines, "  "+line)
		}
	}
	return lines
}

// named is a list of machines of which the first are named.
func named(machines []string, whole bool) string {
	if n := len(machines); n > whoNames+1 && !whole {
		return fmt.Sprintf("%s and %d more", strings.Join(machines[:whoNames], ", "), n-whoNames)
	}
	return strings.Join(machines, ", ")
}

func stepsOf(p release.Plan, target release.Target) (steps []release.Step) {
	for _, s := range p.Steps() {
		if s.Target == target {
			steps = append(steps, s)
		}
	}
	return steps
}

// stepChanges are what one step changes besides the image.
func stepChanges(s release.Step, all []release.Step, whole bool) (lines []string) {
	switch s.Verb {
	case release.Update:
		if lines = difference(s.Before, s.After, whole); len(lines) == 0 {
			lines = []string{sameBut(s)}
		}
	case release.Create:
		lines = createChanges(s, all, whole)
	default:
		return nil
	}
	for i, check := range s.MachineChecks {
		lines = append(lines, fmt.Sprintf("machine check %d, on a machine beside it:", i+1))
		lines = append(lines, besides(s.After, check, whole)...)
	}
	return lines
}

// createChanges are what a machine that is created has, compared with the one
// that it succeeds.
func createChanges(s release.Step, all []release.Step, whole bool) (lines []string) {
	if old, ok := succeeded(s, all); ok {
		if lines = difference(old.Before, s.After, whole); len(lines) == 0 {
			s.Before, s.From = old.Before, old.From
			lines = []string{sameBut(s)}
		}
	} else {
		lines = newFields(s.After, whole)
	}
	if s.Volume != nil {
		lines = append(lines, "takes a volume "+shown(s.Volume.Name, whole)+madeWith(s.Volume.Ask, whole))
	}
	if s.StandbyFor != "" {
		lines = append(lines, "stands by for "+cleanLine(s.StandbyFor))
	}
	return lines
}

// madeWith says what a volume is asked for with where none is free.
func madeWith(ask json.RawMessage, whole bool) string {
	words := difference(nil, ask, whole)
	for i := range words {
		words[i] = strings.TrimSuffix(words[i], " is new")
	}
	if len(words) == 0 {
		return ""
	}
	return "; where none is free one is made: " + strings.Join(words, ", ")
}

// succeeded is the step that removes the machine in whose place s creates one: it
// has the config that the machine had.
func succeeded(s release.Step, all []release.Step) (release.Step, bool) {
	i := slices.IndexFunc(all, func(o release.Step) bool {
		return s.Succeeds != "" && o.Machine == s.Succeeds && o.Target == s.Target && len(o.Before) > 0
	})
	if i < 0 {
		return release.Step{}, false
	}
	return all[i], true
}

// commandChanges say what a release command is, and in what its machine differs
// from those of its app.
func commandChanges(s release.Step, all []release.Step, whole bool) []string {
	line := "release command: " + shown(s.Command, whole)
	var app json.RawMessage
	for _, o := range all {
		if o.Verb != release.Run && len(o.After) > 0 {
			app = o.After
			break
		}
	}
	more := besides(app, s.After, whole)
	if len(more) > 0 {
		line += "; its machine has, unlike those of the app:"
	}
	return append([]string{line}, more...)
}

// besides are the lines of what a machine that runs one command has and those of
// its app have not.
func besides(app, config json.RawMessage, whole bool) (lines []string) {
	for _, line := range difference(app, config, whole) {
		if whole || !strings.HasSuffix(line, " is removed") {
			lines = append(lines, "  "+line)
		}
	}
	return lines
}

// sameBut says why a machine is changed whose config stays as it is.
func sameBut(s release.Step) string {
	switch {
	case s.From.Digest() != s.To.Digest():
		return "config: no difference but the image"
	case imageIn(s.Before) != imageIn(s.After):
		return "config: the same image, named by its digest"
	}
	return "config: no difference; it takes its secrets anew"
}

func imageIn(config json.RawMessage) string {
	var c struct{ Image string }
	if json.Unmarshal(config, &c) != nil {
		return ""
	}
	return c.Image
}

// imageChanges says from which digests the target comes to which.
func imageChanges(p release.Plan, target release.Target) (lines []string) {
	steps := stepsOf(p, target)
	for _, s := range steps {
		if old, ok := succeeded(s, steps); ok && s.Verb == release.Create {
			s.From = old.From
		}
		if s.To == "" || s.From == s.To || s.Verb == release.Run {
			continue
		}
		line := Digest(s.From) + " → " + Digest(s.To)
		if s.From == "" {
			line = Digest(s.To) + " (new machine)"
		}
		if line = cleanLine(line); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

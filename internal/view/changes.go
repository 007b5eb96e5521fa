package view

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// maxMachineNames is how many machines a change lists by name.
const maxMachineNames = 3

// A sharedChange holds the lines of a difference and the machines that have it.
type sharedChange struct {
	lines    []string
	machines []string
}

// configChanges returns a line per config field that the steps of a target change.
// An updated machine is compared with its own config, a created one with the
// machine that it succeeds; without a predecessor, its whole config is listed.
// Machines with equal differences share the lines.
func configChanges(p release.Plan, target release.Target, whole bool) (lines []string) {
	steps := targetSteps(p, target)
	var changes []sharedChange
	for _, s := range steps {
		if s.Verb == release.Run {
			lines = append(lines, commandChanges(s, steps, whole)...)
			continue
		}
		changed := stepChanges(s, steps, whole)
		if len(changed) == 0 {
			continue
		}
		i := slices.IndexFunc(changes, func(c sharedChange) bool { return slices.Equal(c.lines, changed) })
		if i < 0 {
			i = len(changes)
			changes = append(changes, sharedChange{lines: changed})
		}
		changes[i].machines = append(changes[i].machines, escapeLine(s.Machine))
	}
	for _, c := range changes {
		if len(changes) == 1 {
			return append(lines, c.lines...)
		}
		lines = append(lines, joinMachines(c.machines, whole)+":")
		for _, line := range c.lines {
			lines = append(lines, "  "+line)
		}
	}
	return lines
}

// joinMachines lists machines by name; of a long list, unless whole, only the first.
func joinMachines(machines []string, whole bool) string {
	if n := len(machines); n > maxMachineNames+1 && !whole {
		return fmt.Sprintf("%s and %d more", strings.Join(machines[:maxMachineNames], ", "), n-maxMachineNames)
	}
	return strings.Join(machines, ", ")
}

func targetSteps(p release.Plan, target release.Target) (steps []release.Step) {
	for _, s := range p.Steps() {
		if s.Target == target {
			steps = append(steps, s)
		}
	}
	return steps
}

// stepChanges returns the lines of what a step changes besides the image.
func stepChanges(s release.Step, all []release.Step, whole bool) (lines []string) {
	switch s.Verb {
	case release.Update:
		if lines = difference(s.Before.Doc, s.After.Doc, whole); len(lines) == 0 {
			lines = []string{unchangedReason(s)}
		}
	case release.Create:
		lines = createChanges(s, all, whole)
	default:
		return nil
	}
	for i, check := range s.MachineChecks {
		lines = append(lines, fmt.Sprintf("machine check %d, on a temporary machine:", i+1))
		lines = append(lines, differingFields(s.After.Doc, check, whole)...)
	}
	return lines
}

// createChanges compares a created machine with its predecessor, or lists its config.
func createChanges(s release.Step, all []release.Step, whole bool) (lines []string) {
	if old, ok := predecessorStep(s, all); ok {
		if lines = difference(old.Before.Doc, s.After.Doc, whole); len(lines) == 0 {
			s.Before = old.Before
			s.From = old.From
			lines = []string{unchangedReason(s)}
		}
	} else {
		lines = newFields(s.After.Doc, whole)
	}
	if s.Volume != nil {
		lines = append(lines, "attaches volume "+formatValue(s.Volume.Name, whole)+volumeRequest(s.Volume.CreateRequest, whole))
	}
	if s.StandbyFor != "" {
		lines = append(lines, "is a standby for "+escapeLine(s.StandbyFor))
	}
	return lines
}

// volumeRequest returns the request for a new volume as text, or "" if none may be made.
func volumeRequest(ask json.RawMessage, whole bool) string {
	parts := difference(nil, ask, whole)
	for i := range parts {
		parts[i] = strings.TrimSuffix(parts[i], " is new")
	}
	if len(parts) == 0 {
		return ""
	}
	return "; if none is free, creates one with " + strings.Join(parts, ", ")
}

// predecessorStep returns the step that removes the machine that s succeeds. Its
// Before is that machine's config.
func predecessorStep(s release.Step, all []release.Step) (release.Step, bool) {
	i := slices.IndexFunc(all, func(o release.Step) bool {
		return s.Replaces != "" && o.Machine == s.Replaces && o.Target == s.Target && !o.Before.IsZero()
	})
	if i < 0 {
		return release.Step{}, false
	}
	return all[i], true
}

// commandChanges returns a release command, and how the config of its machine
// differs from the app's.
func commandChanges(s release.Step, all []release.Step, whole bool) []string {
	line := "release command: " + formatValue(s.Command, whole)
	var app json.RawMessage
	for _, o := range all {
		if o.Verb != release.Run && !o.After.IsZero() {
			app = o.After.Doc
			break
		}
	}
	more := differingFields(app, s.After.Doc, whole)
	if len(more) > 0 {
		line += "; its machine differs from the app's:"
	}
	return append([]string{line}, more...)
}

// differingFields returns the fields in which the machine of a command differs from
// the app's. Fields that only the app has are left out unless whole is true.
func differingFields(app, config json.RawMessage, whole bool) (lines []string) {
	for _, line := range difference(app, config, whole) {
		if whole || !strings.HasSuffix(line, " is removed") {
			lines = append(lines, "  "+line)
		}
	}
	return lines
}

// unchangedReason returns why a step changes a machine whose config stays the same.
func unchangedReason(s release.Step) string {
	switch {
	case s.From.Digest() != s.To.Digest():
		return "config: only the image differs"
	case configImage(s.Before.Doc) != configImage(s.After.Doc):
		return "config: the same image, now referenced by digest"
	}
	return "config: no difference; the update applies new secrets"
}

func configImage(config json.RawMessage) string {
	var c struct{ Image string }
	if json.Unmarshal(config, &c) != nil {
		return ""
	}
	return c.Image
}

// imageChanges returns a line per distinct change of image: "old → new".
func imageChanges(p release.Plan, target release.Target) (lines []string) {
	steps := targetSteps(p, target)
	for _, s := range steps {
		if old, ok := predecessorStep(s, steps); ok && s.Verb == release.Create {
			s.From = old.From
		}
		if s.To == "" || s.From == s.To || s.Verb == release.Run {
			continue
		}
		line := Digest(s.From) + " → " + Digest(s.To)
		if s.From == "" {
			line = Digest(s.To) + " (new machine)"
		}
		if line = escapeLine(line); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

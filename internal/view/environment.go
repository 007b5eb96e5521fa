package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// An Environment holds the state of an environment and the target of a rollback.
type Environment struct {
	Name    string        `json:"name"`
	Targets []TargetState `json:"places"`
	// Pin keeps releases from changing it. PinUnknown is the error of reading it.
	Pin        *release.Pin `json:"pin,omitempty"`
	PinUnknown string       `json:"pin_unknown,omitempty"`
	Rollback   Rollback     `json:"rollback"`
}

// A Rollback describes the revision that a rollback restores. Without a Target, one of
// Refused, Unknown and Busy is the reason.
type Rollback struct {
	Target      *release.RestoredRevision `json:"target,omitempty"`
	Description string                    `json:"said,omitempty"` // when that revision ran
	Notes       []string                  `json:"notes,omitempty"`
	Images      []ImageAvailability       `json:"images,omitempty"`
	Until       time.Time                 `json:"until,omitzero"`          // when the history that records it may be deleted; zero: never
	Retention   release.Duration          `json:"kept,omitempty"`          // of closed rollouts
	NoUntil     string                    `json:"until_unknown,omitempty"` // why Until is unknown
	Refused     string                    `json:"refused,omitempty"`
	Unknown     string                    `json:"unknown,omitempty"`
	Busy        bool                      `json:"busy,omitempty"` // a rollout is open; the target is known after it
}

// An ImageAvailability says whether the registry still has an image that a rollback
// needs, by its digest.
type ImageAvailability struct {
	App     string        `json:"app"`
	Image   release.Image `json:"image"`
	Exists  bool          `json:"there"`
	Unknown string        `json:"unknown,omitempty"` // the error of asking the registry
}

// EnvironmentText shows the targets of an environment, its pin, and what a rollback
// restores.
func EnvironmentText(e Environment, now time.Time, style Style) string {
	e = escapeAll(e)
	var b strings.Builder
	b.WriteString(style.paint(bold, e.Name) + "\n")
	b.WriteString(pinText(e.Name, e.Pin, style))
	if e.PinUnknown != "" {
		b.WriteString(style.wrap("  "+style.paint(yellow, "?")+" ", "unknown whether it is pinned: "+e.PinUnknown))
	}
	for _, t := range e.Targets {
		t.write(&b, now, style)
	}
	b.WriteString("\n" + style.paint(bold, "release rollback "+e.Name) + "\n")
	for _, line := range e.Rollback.textLines() {
		b.WriteString(style.wrap("  ", line))
	}
	return b.String()
}

// pinText shows who pinned an environment, and how to unpin it.
func pinText(environment string, pin *release.Pin, style Style) string {
	if pin == nil {
		return ""
	}
	return style.wrap("  "+style.paint(yellow, "!")+" ", pin.String()) +
		style.wrap("    ", fmt.Sprintf("To let releases change it again: release unpin %s --reason …", environment))
}

func (r Rollback) textLines() (lines []string) {
	switch {
	case r.Refused != "":
		return []string{"refused: " + r.Refused}
	case r.Unknown != "":
		return []string{"unknown: " + r.Unknown}
	case r.Busy:
		return []string{"unknown until the open rollout has ended"}
	case r.Target == nil:
		return nil
	}
	summary := r.Target.Summary()
	if summary == "" {
		summary = "an unknown revision: the machines name none"
	}
	lines = append(lines, "back to "+summary, r.Description)
	lines = append(lines, r.Notes...)
	for _, i := range r.Images {
		lines = append(lines, i.text())
	}
	switch {
	case r.NoUntil != "":
		lines = append(lines, "unknown how long the history records it: "+r.NoUntil)
	case r.Until.IsZero():
		lines = append(lines, "recorded in the history without a time limit")
	default:
		lines = append(lines, fmt.Sprintf("recorded in the history until %s (closed rollouts are kept for %s)", r.Until.UTC().Format("2006-01-02 15:04 UTC"), Duration(time.Duration(r.Retention))))
	}
	return lines
}

func (i ImageAvailability) text() string {
	line := "image of " + i.App + " " + Digest(i.Image) + ": "
	switch {
	case i.Unknown != "":
		return line + "unknown whether it still exists: " + i.Unknown
	case i.Exists:
		return line + "exists"
	}
	return line + "missing from its registry: a machine that has to be created again cannot start"
}

package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// An Environment is what runs in an environment, and what a rollback of it goes
// back to.
type Environment struct {
	Name   string  `json:"name"`
	Places []Place `json:"places"`
	// Pin keeps releases from changing it; PinUnknown says why that is not known.
	Pin        *release.Pin `json:"pin,omitempty"`
	PinUnknown string       `json:"pin_unknown,omitempty"`
	Rollback   Back         `json:"rollback"`
}

// A Back is what a rollback goes back to. One of Refused, Unknown and Busy says
// why there is no Target.
type Back struct {
	Target  *release.RestoredRevision `json:"target,omitempty"`
	Said    string                    `json:"said,omitempty"` // which time that was
	Notes   []string                  `json:"notes,omitempty"`
	Images  []ImageThere              `json:"images,omitempty"`
	Until   time.Time                 `json:"until,omitzero"` // when history may be deleted that tells of it
	Kept    release.Duration          `json:"kept,omitempty"` // how long history keeps a closed rollout
	NoUntil string                    `json:"until_unknown,omitempty"`
	Refused string                    `json:"refused,omitempty"`
	Unknown string                    `json:"unknown,omitempty"`
	Busy    bool                      `json:"busy,omitempty"` // a rollout is open: it is certain once that has ended
}

// An ImageThere is an image that a rollback needs, and whether its registry has
// it by its digest.
type ImageThere struct {
	App     string        `json:"app"`
	Image   release.Image `json:"image"`
	There   bool          `json:"there"`
	Unknown string        `json:"unknown,omitempty"` // why that is not known
}

// EnvironmentText shows what runs in an environment, its pin, and what a rollback
// goes back to.
func EnvironmentText(e Environment, now time.Time, style Style) string {
	e = clean(e)
	var b strings.Builder
	b.WriteString(style.paint(bold, e.Name) + "\n")
	b.WriteString(pinText(e.Name, e.Pin, style))
	if e.PinUnknown != "" {
		b.WriteString(style.wrap("  "+style.paint(yellow, "?")+" ", "whether it is pinned is not known: "+e.PinUnknown))
	}
	for _, p := range e.Places {
		p.write(&b, now, style)
	}
	b.WriteString("\n" + style.paint(bold, "release rollback "+e.Name) + "\n")
	for _, line := range e.Rollback.lines() {
		b.WriteString(style.wrap("  ", line))
	}
	return b.String()
}

// pinText shows that an environment is pinned, by whom, and how to unpin it.
func pinText(environment string, pin *release.Pin, style Style) string {
	if pin == nil {
		return ""
	}
	return style.wrap("  "+style.paint(yellow, "!")+" ", pin.String()) +
		style.wrap("    ", fmt.Sprintf("release unpin %s --reason … lets releases change it again", environment))
}

func (b Back) lines() (lines []string) {
	switch {
	case b.Refused != "":
		return []string{"refused: " + b.Refused}
	case b.Unknown != "":
		return []string{"not known: " + b.Unknown}
	case b.Busy:
		return []string{"not certain yet: a rollout is open; it is known once that has ended"}
	case b.Target == nil:
		return nil
	}
	summary := b.Target.Summary()
	if summary == "" {
		summary = "a revision that the machines do not name"
	}
	lines = append(lines, "back to "+summary, b.Said)
	lines = append(lines, b.Notes...)
	for _, i := range b.Images {
		lines = append(lines, i.line())
	}
	switch {
	case b.NoUntil != "":
		lines = append(lines, "until when history tells of it is not known: "+b.NoUntil)
	case b.Until.IsZero():
		lines = append(lines, "history tells of it without a limit")
	default:
		lines = append(lines, fmt.Sprintf("history tells of it until %s (closed rollouts are kept for %s)", b.Until.UTC().Format("2006-01-02 15:04 UTC"), Took(time.Duration(b.Kept))))
	}
	return lines
}

func (i ImageThere) line() string {
	line := "image of " + i.App + " " + Digest(i.Image) + ": "
	switch {
	case i.Unknown != "":
		return line + "not known whether it still exists: " + i.Unknown
	case i.There:
		return line + "exists"
	}
	return line + "its registry does not have it any more: a machine that has to be made again cannot start"
}

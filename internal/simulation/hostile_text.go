package simulation

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// hostileText is the kind of trouble in which the repository, its authors and its
// programs write text that is meant to deceive its readers.
const hostileText = "hostile text"

// deceptiveText erases a line of a terminal, reverses the direction of text, and has a
// link and a heading of Markdown.
const deceptiveText = "\x1b[2K\x1b[1A\r\u202e\u200b\u009b31m [click](http://evil.example) # "

// noteVariants are values of the environment variable NOTE. They differ from version
// to version in a place that is easy to overlook. A view of the plan must contain
// seen.
var noteVariants = []struct{ value, seen func(version string) string }{
	{func(v string) string { return strings.Repeat("x", 100) + "-tail-" + v }, func(v string) string { return "-tail-" + v }},
	{func(v string) string { return "one" + spacesFor(v) + "two" }, func(v string) string { return "one" + spacesFor(v) + "two" }},
	{func(v string) string { return deceptiveText + "shown-" + v }, func(v string) string { return "shown-" + v }},
	{func(v string) string { return "adm\u200bin\u202e-" + v }, func(v string) string { return "-" + v }},
	{func(v string) string { return strings.Repeat("y\n", 50) + v + strings.Repeat(" z", 60) }, func(v string) string { return v + " z z" }},
}

// spacesFor returns as many spaces as the number of the version.
func spacesFor(version string) string { return strings.Repeat(" ", int(version[len(version)-1]-'0')) }

// hostileNote returns the index in noteVariants that the case uses, and whether the
// case has hostile text.
func (c Case) hostileNote() (note int, ok bool) {
	i := slices.IndexFunc(c.Troubles, func(t Trouble) bool { return t.Kind == hostileText })
	if i < 0 {
		return 0, false
	}
	return c.Troubles[i].Machine % len(noteVariants), true
}

// formatNote returns the line of fly.toml that sets NOTE at a version, or "" without
// hostile text.
func (c Case) formatNote(a App, version string) string {
	i, ok := c.hostileNote()
	if !ok {
		return ""
	}
	doc, err := json.Marshal(noteVariants[i].value(a.contentVersion(version)))
	if err != nil {
		panic(err) // a string
	}
	return fmt.Sprintf("NOTE = %s\n", doc) // TOML reads JSON's escapes
}

// revisionOf returns the revision of a version. With hostile text its subject is
// deceptive.
func (c Case) revisionOf(version string) release.Revision {
	r := plainRevision(version)
	if _, ok := c.hostileNote(); ok {
		r.Subject += deceptiveText
	}
	return r
}

// authorName returns the name of the author of all releases.
func (c Case) authorName() string {
	if _, ok := c.hostileNote(); ok {
		return "ana" + deceptiveText
	}
	return "ana"
}

// hostileOutput returns the output of failing checks and of programs, or "" without
// hostile text.
func (c Case) hostileOutput() string {
	if _, ok := c.hostileNote(); ok {
		return "refused" + deceptiveText
	}
	return ""
}

// checkPlanViews checks that the views of a plan contain each changed value of NOTE.
func (c *checker) checkPlanViews(plan release.Plan) {
	i, ok := c.sim.hostileNote()
	if !ok {
		return
	}
	texts := []string{view.Plan(plan, view.Style{}), view.Plan(plan, view.Style{Whole: true})}
	for _, text := range texts {
		c.checkNoControlRunes("a plan", text)
	}
	for _, s := range plan.Steps() {
		version, changes := c.findNewNote(s)
		if !changes {
			continue
		}
		seen := noteVariants[i].seen(version)
		for whole, text := range texts { // the short form may cut a value that is entirely new
			if !strings.Contains(text, seen) && (whole == 1 || c.isCompared(s)) {
				c.sim.addViolation("%s changes NOTE to %q, but the view of the plan does not contain %q:\n%s", s, noteVariants[i].value(version), seen, text)
				return
			}
		}
	}
}

// isCompared reports whether the config of a step must be compared with that of its
// machine, or of the machine that it succeeds. Fly does not return the config of a
// machine on an unreachable host, and such a host may have come back since the plan was
// made.
func (c *checker) isCompared(s release.Step) bool {
	if c.sim.hasTrouble("host unreachable") || c.sim.hasTrouble("host unreachable at a change") || c.sim.hasTrouble("host comes back") {
		return false
	}
	return slices.ContainsFunc(c.listMachines(s.FlyApp), func(m fly.Machine) bool {
		return (m.ID == s.Machine || m.ID == s.Replaces) && m.HostStatus != "unreachable"
	})
}

// findNewNote returns the version of the NOTE that a step sets, and whether no machine
// of the app has that NOTE yet.
func (c *checker) findNewNote(s release.Step) (version string, changes bool) {
	level, note := readNote(s.After.Doc)
	if level == "" || s.Verb != release.Update && s.Verb != release.Create {
		return "", false
	}
	for _, m := range c.listMachines(s.FlyApp) {
		if _, has := readNote(machineConfig(m)); has == note {
			return "", false
		}
	}
	return level, true
}

// readNote returns the env vars LEVEL and NOTE of a config.
func readNote(config json.RawMessage) (level, note string) {
	var c struct{ Env map[string]string }
	if json.Unmarshal(config, &c) != nil {
		return "", ""
	}
	return c.Env["LEVEL"], c.Env["NOTE"]
}

// markdownCode matches text that Markdown does not interpret: code blocks and code
// spans.
var markdownCode = regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]*`")

// checkStatusViews checks that the views of a status have no control characters, and
// that the details in the Temporal UI have no links from hostile text.
func (c *checker) checkStatusViews(s release.Status) {
	if _, ok := c.sim.hostileNote(); !ok {
		return
	}
	now := c.sim.started
	c.checkNoControlRunes("the live view", view.Live(s, now, view.Style{}))
	c.checkNoControlRunes("a report", view.Report(s, "", now, view.Style{}))
	if s.Gate != nil {
		c.checkNoControlRunes("a review", view.Review(s, now, view.Style{}))
	}
	details := view.Details(s)
	c.checkNoControlRunes("the details", details)
	rest := markdownCode.ReplaceAllString(details, "")
	if i := strings.Index(rest, "[click](http"); i >= 0 {
		c.sim.addViolation("the details contain a link from hostile text: %q", rest[max(0, i-200):min(len(rest), i+100)])
	}
}

// checkNoControlRunes reports a violation if text has a control character or an
// invisible one.
func (c *checker) checkNoControlRunes(what, text string) {
	if i := strings.IndexFunc(text, isControlRune); i >= 0 {
		c.sim.addViolation("%s contains the control character %q: %q", what, []rune(text[i:])[0], text[max(0, i-40):min(len(text), i+40)])
	}
}

// isControlRune reports whether r is a control, bidirectional or zero-width character.
func isControlRune(r rune) bool {
	return r < 0x20 && r != '\n' && r != '\t' || 0x7f <= r && r <= 0x9f || 0x200b <= r && r <= 0x200f ||
		0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 || r == 0xfeff
}

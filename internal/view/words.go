package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// Took writes a duration as people say it: 0.3s, 12s, 3m05s, 1h02m.
func Took(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Truncate(time.Second).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}

// Digest is an image's digest as far as people read it: 12 of its digits. An
// image without one is written out.
func Digest(i release.Image) string {
	algorithm, digits, found := strings.Cut(i.Digest(), ":")
	if !found {
		return string(i)
	}
	return algorithm + ":" + digits[:min(12, len(digits))]
}

// Ref is what people type to mean the workflow with this ID: the end of a
// release's, all of a rollout's.
func Ref(id string) string {
	if rest, ok := strings.CutPrefix(id, "release/"); ok {
		return rest[strings.LastIndexByte(rest, '/')+1:]
	}
	return id
}

// about is the subject of a release's revision; of a rollback it is the revision
// that is restored.
func about(s release.Status, limit int) string {
	if s.Restores == nil {
		return oneLine(s.Revision.Subject, limit)
	}
	if s.Revision.Commit == "" {
		return "back to what ran before"
	}
	said := "back to " + oneLine(s.Revision.Label(), limit)
	if taken := takenAway(s); taken != "" {
		said += ", " + oneLine(taken, limit)
	}
	return said
}

// takenAway returns how many commits a rollback takes away, in words, or "".
func takenAway(s release.Status) string {
	for _, e := range s.Environments {
		if said := e.Lineage.TakenAway(); said != "" && s.Restores != nil {
			return said
		}
	}
	return ""
}

// count is "1 machine", "2 machines".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// oneLine is text without line breaks, of at most limit runes.
func oneLine(text string, limit int) string {
	return cut(strings.Join(strings.Fields(text), " "), limit)
}

// cut is text of at most limit columns; what is cut leaves an ellipsis.
func cut(text string, limit int) string {
	if limit <= 0 || columns(text) <= limit {
		return text
	}
	return text[:fitting(text, limit-1)] + "…"
}

// machineName is how a machine is called: its ID, or the name it will have.
func machineName(m release.MachineStatus) string {
	if m.ID != "" {
		return m.ID
	}
	return m.Name
}

// where is the group and the region of a machine.
func where(m release.MachineStatus) string {
	return strings.Trim(m.Group+", "+m.Region, ", ")
}

// done says a verb as something that has happened.
func done(v release.Verb) string {
	switch v {
	case release.Stop:
		return "stopped"
	case release.Run:
		return "ran the release command"
	case "":
		return "changed"
	}
	return strings.TrimSuffix(string(v), "e") + "ed"
}

// doing says a verb as something under way.
func doing(v release.Verb) string {
	switch v {
	case release.Stop:
		return "stopping"
	case release.Run:
		return "running the release command"
	case "":
		return "changing"
	}
	return strings.TrimSuffix(string(v), "e") + "ing"
}

// failedTo says a verb as something that did not work.
func failedTo(v release.Verb) string {
	if v == release.Run {
		return "failed to run the release command"
	}
	return "failed to " + string(v)
}

// command says how a release command ended.
func command(c release.CommandResult) string {
	return fmt.Sprintf("release command of %s: %s: exit code %d after %s", c.Target, oneLine(c.Command, 100), c.ExitCode, Took(time.Duration(c.Took)))
}

// phase is a phase with the environment it is about.
func phase(p release.Phase, environment string) string {
	if environment == "" || p == release.Done {
		return string(p)
	}
	return environment + ": " + string(p)
}

// outcome is how the part of a release in an environment ended; what is unchecked
// is said with it, for it does not count as healthy.
func outcome(e release.EnvironmentStatus) string {
	var apps []string
	for _, v := range e.Verdicts {
		if v.Health == release.Unchecked {
			apps = append(apps, v.Target.App)
		}
	}
	if len(apps) == 0 || e.Outcome != release.Promoted && e.Outcome != release.Restored {
		return string(e.Outcome)
	}
	return fmt.Sprintf("%s, unchecked: %s", e.Outcome, strings.Join(apps, ", "))
}

// verdict says what verifying a target found.
func verdict(v release.Verdict) string { return v.Target.String() + ": " + found(v) }

// found is a verdict without the name of its target.
func found(v release.Verdict) string {
	s := fmt.Sprintf("%s, %s", v.Health, count(v.Machines, "machine"))
	if v.Probed != "" {
		s += ", " + v.Probed
	}
	if len(v.Notes) > 0 {
		s += " (" + strings.Join(v.Notes, "; ") + ")"
	}
	return s
}

// decision says what somebody decided, and whether it counts.
func decision(g release.Given) string {
	word := "rejected"
	if g.Approve {
		word = "approved"
	}
	by := g.By
	if by == "" {
		by = "nobody named"
	}
	s := fmt.Sprintf("%s by %s", word, by)
	if g.Plan != "" {
		s += " (plan " + g.Plan[:min(12, len(g.Plan))] + ")"
	}
	if g.Reason != "" {
		s += ": " + g.Reason
	}
	if g.Ignored != "" {
		s += " — does not count: " + g.Ignored
	}
	return s
}

// meaning says what a choice for a held rollout does.
func meaning(c release.Choice) string {
	switch c {
	case release.Retry:
		return "try the same again"
	case release.GoBack:
		return "bring the baseline back"
	case release.Keep:
		return "leave every machine as it is"
	case release.Abandon:
		return "give up: the rollout fails and is stranded"
	}
	return ""
}

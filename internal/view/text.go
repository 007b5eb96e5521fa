package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// Duration returns a duration as short text: 0.3s, 12s, 3m05s, 1h02m, 3 days.
func Duration(d time.Duration) string {
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

// Digest returns the digest of an image with its first 12 digits. An image without a
// digest is returned whole.
func Digest(i release.Image) string {
	algorithm, digits, found := strings.Cut(i.Digest(), ":")
	if !found {
		return string(i)
	}
	return algorithm + ":" + digits[:min(12, len(digits))]
}

// Ref returns the argument of commands that selects a workflow: the last part of a
// release's ID, the whole ID of a rollout.
func Ref(id string) string {
	if rest, ok := strings.CutPrefix(id, "release/"); ok {
		return rest[strings.LastIndexByte(rest, '/')+1:]
	}
	return id
}

// subjectText returns the subject of a release's revision, or of a rollback, the
// revision that it restores.
func subjectText(s release.Status, limit int) string {
	if s.Restores == nil {
		return oneLine(s.Revision.Subject, limit)
	}
	if s.Revision.Commit == "" {
		return "back to what ran before"
	}
	text := "back to " + oneLine(s.Revision.Label(), limit)
	if removed := removedCommits(s); removed != "" {
		text += ", " + oneLine(removed, limit)
	}
	return text
}

// removedCommits returns how many commits a rollback removes, as text, or "".
func removedCommits(s release.Status) string {
	for _, e := range s.Environments {
		if text := e.Lineage.DescribeRemoved(); text != "" && s.Restores != nil {
			return text
		}
	}
	return ""
}

// count returns a number and a noun: "1 machine", "2 machines".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// oneLine returns text with single spaces, truncated to limit columns.
func oneLine(text string, limit int) string {
	return truncate(strings.Join(strings.Fields(text), " "), limit)
}

// truncate returns text of at most limit columns, with an ellipsis if it is cut.
func truncate(text string, limit int) string {
	if limit <= 0 || textWidth(text) <= limit {
		return text
	}
	return text[:fittingBytes(text, limit-1)] + "…"
}

// machineName returns the ID of a machine, or its name while it has no ID.
func machineName(m release.MachineStatus) string {
	if m.ID != "" {
		return m.ID
	}
	return m.Name
}

// machineLocation returns the group and the region of a machine.
func machineLocation(m release.MachineStatus) string {
	return strings.Trim(m.Group+", "+m.Region, ", ")
}

// pastVerb returns the past form of a verb: updated.
func pastVerb(v release.Verb) string {
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

// ongoingVerb returns the progressive form of a verb: updating.
func ongoingVerb(v release.Verb) string {
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

// failedVerb returns a verb as a failure: failed to update.
func failedVerb(v release.Verb) string {
	if v == release.Run {
		return "failed to run the release command"
	}
	return "failed to " + string(v)
}

// commandText returns the result of a release command.
func commandText(c release.CommandResult) string {
	return fmt.Sprintf("release command of %s: %s: exit code %d after %s", c.Target, oneLine(c.Command, 100), c.ExitCode, Duration(time.Duration(c.Took)))
}

// phaseText returns a phase with its environment.
func phaseText(p release.Phase, environment string) string {
	if environment == "" || p == release.Done {
		return string(p)
	}
	return environment + ": " + string(p)
}

// outcomeText returns the outcome of an environment, with the apps that are unchecked:
// those do not count as healthy.
func outcomeText(e release.EnvironmentStatus) string {
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

// verdictText returns the verdict of a target.
func verdictText(v release.Verdict) string { return v.Target.String() + ": " + verdictDetail(v) }

// verdictDetail returns a verdict without the name of its target.
func verdictDetail(v release.Verdict) string {
	s := fmt.Sprintf("%s, %s", v.Health, count(v.Machines, "machine"))
	if v.Probed != "" {
		s += ", " + v.Probed
	}
	if len(v.Notes) > 0 {
		s += " (" + strings.Join(v.Notes, "; ") + ")"
	}
	return s
}

// QueueText returns what a release waits for before it may change its environment, and
// how to resolve the rollout before it if that is held: nothing else would end the
// wait.
func QueueText(s release.Status) string {
	if s.HeldAhead == "" {
		return s.Queue
	}
	return s.Queue + "; it is held and waits for: release resolve " + Ref(s.HeldAhead)
}

// reviewText returns a review, and why it was ignored if it was.
func reviewText(g release.ReceivedReview) string {
	s := "rejected"
	if g.Approve {
		s = "approved"
	}
	if g.By == "" {
		s += " without a name"
	} else {
		s += " by " + g.By
	}
	if g.Plan != "" {
		s += " (plan " + g.Plan[:min(12, len(g.Plan))] + ")"
	}
	if g.Reason != "" {
		s += ": " + g.Reason
	}
	if g.IgnoredReason != "" {
		s += " — ignored: " + g.IgnoredReason
	}
	return s
}

// choiceText returns what a resolution of a held rollout does.
func choiceText(c release.Choice) string {
	switch c {
	case release.ChoiceRetry:
		return "try the same steps again"
	case release.ChoiceRollback:
		return "roll back to the baseline"
	case release.ChoiceKeep:
		return "leave every machine as it is"
	case release.ChoiceAbandon:
		return "give up: the rollout fails and is stranded"
	}
	return ""
}

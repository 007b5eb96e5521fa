package release

import (
	"fmt"
	"slices"
)

// A Relation is how a revision relates to what an environment runs.
type Relation string

const (
	Forward         Relation = "forward"  // it descends from all that runs, or nothing of this program runs
	Same            Relation = "same"     // it is what runs
	Backward        Relation = "backward" // an ancestor of something that runs
	Diverged        Relation = "diverged" // neither: what runs has commits that it has not
	UnknownRelation Relation = "unknown"  // git could not tell
)

// A Lineage compares the revision of a plan with the revisions that the machines
// of its environment run, by ancestry. It is part of the plan, and of its hash.
type Lineage struct {
	Relation Relation `json:"relation,omitempty"` // "" for a rollback, which is exempt: see TakenAway
	// Running are the commits that the machines say they run, sorted.
	Running []string `json:"running,omitempty"`
	// Newer is a running revision that is newer: of a backward one.
	Newer *Revision `json:"newer,omitempty"`
	// Added are the newest commits that come, Taken the newest that run there and
	// that the revision does not have; Adds and Takes count all of them.
	Added []Revision `json:"added,omitempty"`
	Adds  int        `json:"adds,omitempty"`
	Taken []Revision `json:"taken,omitempty"`
	Takes int        `json:"takes,omitempty"`
	Why   string     `json:"why,omitempty"` // why it is unknown
}

// A Head is the revision that an environment runs as a whole: every app was
// released at it, or had nothing to change.
type Head struct {
	Commit string `json:"commit"`
	// Covers are commits that machines may still name, for nothing changed in
	// their app since.
	Covers []string `json:"covers,omitempty"`
}

// Differs reports whether head is another revision than other.
func (head *Head) Differs(other *Head) bool { return head.commitOrEmpty() != other.commitOrEmpty() }

func (head *Head) commitOrEmpty() string {
	if head == nil {
		return ""
	}
	return head.Commit
}

// Short returns the first 12 digits of the commit, or words where there is none.
func (head *Head) Short() string {
	if head == nil {
		return "no revision as a whole"
	}
	return Revision{Commit: head.Commit}.Short()
}

// Compared returns the commits to compare a revision with, where machines name
// the commits running: what head covers is head.
func (head *Head) Compared(running []string) (commits []string) {
	if head == nil {
		return running
	}
	commits = []string{head.Commit}
	for _, c := range running {
		if c != head.Commit && !slices.Contains(head.Covers, c) {
			commits = append(commits, c)
		}
	}
	return commits
}

// Joined returns the relation to several revisions that run side by side: the
// one that matters most. Without any it is Forward.
func Joined(relations []Relation) Relation {
	for _, r := range []Relation{Backward, Diverged, UnknownRelation} {
		if slices.Contains(relations, r) {
			return r
		}
	}
	if len(relations) > 0 && !slices.Contains(relations, Forward) {
		return Same
	}
	return Forward
}

// NeedsApproval reports whether a person has to approve the plan, gate or not.
func (l Lineage) NeedsApproval() bool { return l.Relation == Diverged || l.Relation == UnknownRelation }

// String returns the lineage in one sentence, or "" where nothing has to be said.
func (l Lineage) String() string {
	switch l.Relation {
	case Backward:
		return fmt.Sprintf("older than %s, which runs there", l.Newer.Label())
	case Diverged:
		return fmt.Sprintf("takes away %s that %s there", formatCommits(l.Takes), pluralize(l.Takes, "runs", "run"))
	case UnknownRelation:
		return fmt.Sprintf("may be older than what runs there: %s", l.Why)
	}
	return ""
}

// TakenAway returns how many commits a rollback takes away, in words. It returns ""
// for the lineage of any other plan.
func (l Lineage) TakenAway() string {
	switch {
	case l.Relation != "":
		return ""
	case l.Why != "":
		return "it is not known how many commits are taken away: " + l.Why
	case l.Takes > 0:
		return formatCommits(l.Takes) + " taken away"
	case len(l.Running) > 0:
		return "no commit taken away"
	}
	return ""
}

// RestoredRevision is the revision that a rollback goes back to, and how many commits it
// takes away.
type RestoredRevision struct {
	Revision
	Lineage Lineage `json:"lineage,omitzero"` // without the commits
}

// Summary returns r in a line: 41c2f0e two, 1 commit taken away.
func (r RestoredRevision) Summary() string {
	if r.Commit == "" {
		return ""
	}
	taken := r.Lineage.TakenAway()
	if taken == "" {
		return r.Label()
	}
	return r.Label() + ", " + taken
}

// Label returns the revision as people write it: its first 12 digits and the
// first line of its message.
func (r *Revision) Label() string {
	switch {
	case r == nil:
		return "another revision"
	case r.Subject == "":
		return r.Short()
	}
	return r.Short() + " " + r.Subject
}

func formatCommits(n int) string { return fmt.Sprintf("%d %s", n, pluralize(n, "commit", "commits")) }

func pluralize(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// RunningRevisions returns the commits that the machines of states say they
// run, sorted.
func RunningRevisions(states []State) (commits []string) {
	for _, s := range states {
		for _, m := range s.Machines {
			if m.Revision != "" {
				commits = append(commits, m.Revision)
			}
		}
	}
	slices.Sort(commits)
	return slices.Compact(commits)
}

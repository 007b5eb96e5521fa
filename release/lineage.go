package release

import (
	"fmt"
	"slices"
)

// A Relation says how a revision relates to the revisions running in an environment.
type Relation string

const (
	Forward         Relation = "forward"  // descends from all running revisions, or none is known
	Same            Relation = "same"     // equals the running revision
	Backward        Relation = "backward" // an ancestor of a running revision
	Diverged        Relation = "diverged" // none of these: a running revision has commits that it lacks
	UnknownRelation Relation = "unknown"  // git could not compare them
)

// A Lineage compares the revision of a plan with the revisions running in its
// environment, by ancestry. It is part of the plan and of its hash.
type Lineage struct {
	Relation Relation `json:"relation,omitempty"` // "" for a rollback: see DescribeRemoved
	// Running are the commits in the metadata of the machines, sorted.
	Running []string `json:"running,omitempty"`
	// Newer is the running revision that is newer, if Relation is Backward.
	Newer *Revision `json:"newer,omitempty"`
	// Added are the newest commits that the plan adds, Removed the newest running
	// commits that it removes. AddedCount and RemovedCount are the total numbers.
	Added        []Revision `json:"added,omitempty"`
	AddedCount   int        `json:"added_count,omitempty"`
	Removed      []Revision `json:"removed,omitempty"`
	RemovedCount int        `json:"removed_count,omitempty"`
	Why          string     `json:"why,omitempty"` // why Relation is UnknownRelation
}

// A Head is the revision of an environment as a whole: every app was released at that
// revision or did not change.
type Head struct {
	Commit string `json:"commit"`
	// Covers are older commits in the metadata of machines whose app did not
	// change since.
	Covers []string `json:"covers,omitempty"`
}

// Differs reports whether head and other are different revisions.
func (head *Head) Differs(other *Head) bool { return head.commitOrEmpty() != other.commitOrEmpty() }

func (head *Head) commitOrEmpty() string {
	if head == nil {
		return ""
	}
	return head.Commit
}

// Short returns the first 12 digits of the commit, or a phrase if head is nil.
func (head *Head) Short() string {
	if head == nil {
		return "no revision as a whole"
	}
	return Revision{Commit: head.Commit}.Short()
}

// CommitsToCompare returns the commits to compare a revision with. running are the
// commits in the metadata of the machines; commits that head covers count as head.
func (head *Head) CommitsToCompare(running []string) (commits []string) {
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

// JoinRelations combines the relations to several running revisions and returns the most
// restrictive one. It returns Forward for no relations.
func JoinRelations(relations []Relation) Relation {
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

// NeedsApproval reports whether the plan needs an approval even without a gate.
func (l Lineage) NeedsApproval() bool { return l.Relation == Diverged || l.Relation == UnknownRelation }

// String returns the lineage in one phrase, or "" if it needs no mention.
func (l Lineage) String() string {
	switch l.Relation {
	case Backward:
		return fmt.Sprintf("older than %s, which runs there", l.Newer.Label())
	case Diverged:
		return fmt.Sprintf("takes away %s that %s there", formatCommits(l.RemovedCount), pluralize(l.RemovedCount, "runs", "run"))
	case UnknownRelation:
		return fmt.Sprintf("may be older than what runs there: %s", l.Why)
	}
	return ""
}

// DescribeRemoved returns in words how many commits a rollback removes, or "" if the
// lineage is not that of a rollback.
func (l Lineage) DescribeRemoved() string {
	switch {
	case l.Relation != "":
		return ""
	case l.Why != "":
		return "it is not known how many commits are taken away: " + l.Why
	case l.RemovedCount > 0:
		return formatCommits(l.RemovedCount) + " taken away"
	case len(l.Running) > 0:
		return "no commit taken away"
	}
	return ""
}

// RestoredRevision is the revision that a rollback restores, and the number of
// commits that it removes.
type RestoredRevision struct {
	Revision
	Lineage Lineage `json:"lineage,omitzero"` // without the commits
}

// Summary returns r in one line: 41c2f0e two, 1 commit taken away.
func (r RestoredRevision) Summary() string {
	if r.Commit == "" {
		return ""
	}
	taken := r.Lineage.DescribeRemoved()
	if taken == "" {
		return r.Label()
	}
	return r.Label() + ", " + taken
}

// Label returns the first 12 digits of the commit and the first line of its message.
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

// RunningRevisions returns the commits in the metadata of the machines of states,
// sorted, each once.
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

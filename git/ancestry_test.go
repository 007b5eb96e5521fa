package git

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

func TestLineage_Relations(t *testing.T) {
	c := newClone(t)
	one := c.commit("one")
	two := c.commit("two")
	three := c.commit("three")
	c.git("checkout", "--quiet", "-b", "hotfix", one)
	fix := c.commit("fix")
	gone := strings.Repeat("ab", 20)

	for name, tc := range map[string]struct {
		commit      string
		running     []string
		want        release.Relation
		newer       string
		added       string
		taken       string
		adds, takes int
	}{
		"nothing runs":                       {commit: two, want: release.Forward},
		"an ancestor runs":                   {commit: three, running: []string{one}, want: release.Forward, added: "three two", adds: 2},
		"itself runs":                        {commit: two, running: []string{two, two}, want: release.Same},
		"itself and an ancestor run":         {commit: two, running: []string{two, one}, want: release.Forward},
		"a descendant runs":                  {commit: one, running: []string{three}, want: release.Backward, newer: "three", taken: "three two", takes: 2},
		"an ancestor and a descendant run":   {commit: two, running: []string{one, three}, want: release.Backward, newer: "three", taken: "three", takes: 1},
		"another branch runs":                {commit: fix, running: []string{three}, want: release.Diverged, added: "fix", adds: 1, taken: "three two", takes: 2},
		"a branch and a descendant run":      {commit: two, running: []string{fix, three}, want: release.Backward, newer: "three", taken: "fix three", takes: 2},
		"an unknown commit runs":             {commit: two, running: []string{gone}, want: release.UnknownRelation},
		"an unknown commit and a branch run": {commit: two, running: []string{gone, fix}, want: release.Diverged, added: "two", adds: 1, taken: "fix", takes: 1},
		"the machine reports no commit":      {commit: two, running: []string{"--all"}, want: release.UnknownRelation},
	} {
		m := &Mirror{Dir: filepath.Join(t.TempDir(), "cache")}
		fromMirror, err := m.Lineage(t.Context(), c.dir, tc.commit, tc.running)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		fromClone, err := c.open().Lineage(t.Context(), tc.commit, tc.running)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for where, got := range map[string]release.Lineage{"mirror": fromMirror, "clone": fromClone} {
			newer := ""
			if got.Newer != nil {
				newer = got.Newer.Subject
			}
			if got.Relation != tc.want || newer != tc.newer || subjects(got.Added) != tc.added || subjects(got.Removed) != tc.taken || got.AddedCount != tc.adds || got.RemovedCount != tc.takes {
				t.Errorf("%s, %s: got %+v", name, where, got)
			}
			if (got.Why != "") != (tc.want == release.UnknownRelation) {
				t.Errorf("%s, %s: the reason is %q", name, where, got.Why)
			}
		}
	}
}

func subjects(revs []release.Revision) string {
	var all []string
	for _, r := range revs {
		all = append(all, r.Subject)
	}
	slices.Sort(all) // commits of the same second have no order
	return strings.Join(all, " ")
}

// A shallow clone may lack the common ancestor of two commits, so finding none
// does not mean that they diverged.
func TestLineage_ShallowClone(t *testing.T) {
	c := newClone(t)
	one := c.commit("one")
	two := c.commit("two")
	dir := filepath.Join(t.TempDir(), "shallow")
	c.git("clone", "--quiet", "--depth=1", "file://"+c.dir, dir)
	c.git("-C", dir, "fetch", "--quiet", "--depth=1", "origin", one)
	m := &Mirror{Dir: filepath.Join(t.TempDir(), "cache")}
	got, err := m.Lineage(t.Context(), dir, two, []string{one})
	if err != nil || got.Relation != release.UnknownRelation || !strings.Contains(got.Why, "shallow") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestLineage_UnreachableRepository(t *testing.T) {
	c := newClone(t)
	one := c.commit("one")
	m := &Mirror{Dir: filepath.Join(t.TempDir(), "cache")}
	if _, err := m.Revision(t.Context(), c.dir, one); err != nil {
		t.Fatal(err)
	}
	two := c.commit("two")
	if err := removeAll(c.dir); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Lineage(t.Context(), c.dir, one, []string{two}); err == nil {
		t.Errorf("got %+v, although the repository can't be read", got)
	}
}

package git

import (
	"os"
	"testing"
	"time"
)

// Mirrors of repositories that nobody releases any more must not stay for ever,
// and those in use must.
func TestMirror_UnusedOnesAreRemoved(t *testing.T) {
	old, used := newClone(t), newClone(t)
	m := &Mirror{Dir: t.TempDir()}
	for _, c := range []*clone{old, used} {
		if _, err := m.Revision(t.Context(), c.dir, c.commit("one")); err != nil {
			t.Fatal(err)
		}
	}
	gone, err := m.repository(old.dir)
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-keepMirror - time.Hour)
	if err := os.Chtimes(gone.dir+"/lock", long, long); err != nil {
		t.Fatal(err)
	}
	m.pruned.Store(0)
	if _, err := m.Revision(t.Context(), used.dir, used.commit("two")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(gone.dir); !os.IsNotExist(err) {
		t.Errorf("a mirror that was not used for %s is still there: %v", keepMirror, err)
	}
	if _, err := m.Revision(t.Context(), old.dir, old.commit("three")); err != nil {
		t.Errorf("its repository is released again: %v", err)
	}
}

// git takes the tag where a branch has its name: the wrong revision would be
// released in silence.
func TestResolve_AmbiguousName(t *testing.T) {
	c := newClone(t)
	first := c.commit("one")
	c.git("tag", "stable")
	c.commit("two")
	c.git("branch", "stable")
	_, err := c.open().Resolve(t.Context(), "stable")
	wantErr(t, err, ErrAmbiguous, "refs/heads/stable at ", "refs/tags/stable at "+first[:12])
	if rev, err := c.open().Resolve(t.Context(), "refs/tags/stable"); err != nil || rev.Commit != first {
		t.Errorf("the tag in full: %v, %v", rev.Commit, err)
	}
}

package git

import (
	"os"
	"testing"
	"time"
)

// Mirrors of repositories that are no longer released are removed, and those in
// use are kept.
func TestMirror_RemovesUnusedRepositories(t *testing.T) {
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
	longAgo := time.Now().Add(-maxUnused - time.Hour)
	if err := os.Chtimes(gone.dir+"/lock", longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	m.pruned.Store(0)
	if _, err := m.Revision(t.Context(), used.dir, used.commit("two")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(gone.dir); !os.IsNotExist(err) {
		t.Errorf("a mirror that was not used for %s is still there: %v", maxUnused, err)
	}
	if _, err := m.Revision(t.Context(), old.dir, old.commit("three")); err != nil {
		t.Errorf("its repository is released again: %v", err)
	}
}

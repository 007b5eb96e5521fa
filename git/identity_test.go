package git

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// A clone and its worktrees are one repository. A copy of the clone is another.
func TestIdentity(t *testing.T) {
	c := newClone(t)
	one := c.commit("one")
	m := &Mirror{Dir: t.TempDir()}
	own, err := m.Identity(t.Context(), c.dir, one)
	if err != nil || own.Root != one || own.Address != c.dir {
		t.Fatalf("the identity of %s at %s is %+v, %v", c.dir, one, own, err)
	}
	worktree := filepath.Join(t.TempDir(), "worktree")
	c.git("worktree", "add", "--quiet", worktree)
	if id, err := m.Identity(t.Context(), worktree, one); err != nil || !id.IsSame(own) {
		t.Errorf("a worktree is %+v, %v", id, err)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-r", c.dir, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if id, err := m.Identity(t.Context(), copied, one); err != nil || id.IsSame(own) {
		t.Errorf("a copy is %+v, %v", id, err)
	}
}

package git

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gofrs/flock"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// remainingCheckouts returns the checkouts that the mirror still has.
func remainingCheckouts(t *testing.T, m *Mirror) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(m.Dir, "*", "checkouts", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// setHostileConfig makes this machine's git settings run programs and change
// files. The returned file exists once one of the programs has run.
func setHostileConfig(t *testing.T) (ran string) {
	t.Helper()
	dir := t.TempDir()
	ran = filepath.Join(dir, "ran")
	hooks := filepath.Join(dir, "hooks")
	if err := os.Mkdir(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"post-checkout", "reference-transaction"} {
		if err := os.WriteFile(filepath.Join(hooks, name), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config := "[core]\n\tautocrlf = true\n\thooksPath = " + hooks +
		"\n[filter \"lfs\"]\n\trequired = true\n\tsmudge = touch " + ran + " && cat\n"
	path := filepath.Join(dir, "config")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_CONFIG_GLOBAL", path)
	return ran
}

func TestCheckout_ExactFilesThenRemoved(t *testing.T) {
	c := newClone(t)
	c.write("a", "1\r\n")
	c.write("big", "version https://git-lfs.github.com/spec/v1\n")
	c.write(".gitattributes", "big filter=lfs\n")
	c.write("auto", "1\n")
	one := c.commit("one")
	c.write("a", "2")
	two := c.commit("two")
	ran := setHostileConfig(t)
	m := &Mirror{Dir: filepath.Join(t.TempDir(), "cache")}

	for commit, want := range map[string]string{one: "1\r\n", two: "2"} {
		var checkout string
		err := m.Checkout(t.Context(), c.dir, commit, func(dir string) error {
			checkout = dir
			if got := read(t, filepath.Join(dir, "a")); got != want {
				t.Errorf("a: got %q; want %q", got, want)
			}
			if got := read(t, filepath.Join(dir, "auto")); got != "1\n" {
				t.Errorf("auto: got %q; the machine's settings changed it", got)
			}
			// Files that a test leaves behind are removed, even read-only ones.
			if err := os.Mkdir(filepath.Join(dir, "made"), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, "made", "file"), nil, 0o444); err != nil {
				return err
			}
			return os.Chmod(filepath.Join(dir, "made"), 0o555)
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(checkout); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", checkout, err)
		}
	}
	if got := remainingCheckouts(t, m); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a hook or a filter ran")
	}
}

func TestMirror_CommitOnNoBranch(t *testing.T) {
	c := newClone(t)
	c.commit("one")
	c.write("release.toml", "x")
	lost := c.commit("two")
	c.git("reset", "--quiet", "--hard", "HEAD~1")
	m := &Mirror{Dir: t.TempDir()}
	rev, err := m.Revision(t.Context(), c.dir, lost)
	if err != nil || rev.Subject != "two" {
		t.Errorf("got %+v, %v", rev, err)
	}
	fsys, err := m.Files(t.Context(), c.dir, lost)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(fsys, "release.toml"); string(b) != "x" {
		t.Errorf("release.toml: %q, %v", b, err)
	}
}

func TestCheckout_CachedCommitWithoutRemote(t *testing.T) {
	c := newClone(t)
	commit := c.commit("one")
	m := &Mirror{Dir: t.TempDir()}
	if _, err := m.Revision(t.Context(), c.dir, commit); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(c.dir); err != nil {
		t.Fatal(err)
	}
	if err := m.Checkout(t.Context(), c.dir, commit, func(string) error { return nil }); err != nil {
		t.Errorf("with the remote gone: %v", err)
	}
}

func TestCheckout_UnknownCommitOrBadAddress(t *testing.T) {
	c := newClone(t)
	c.commit("one")
	m := &Mirror{Dir: t.TempDir()}
	never := func(string) error { t.Error("called"); return nil }
	nowhere := strings.Repeat("ab", 20)
	wantErr(t, m.Checkout(t.Context(), c.dir, nowhere, never), ErrUnknown, nowhere, "push it")
	wantErr(t, m.Checkout(t.Context(), c.dir, "main", never), ErrUnknown)
	for _, url := range []string{"", "--upload-pack=touch x", "ext::sh -c touch% x", "relative/path", "http://example.com/a", "https://", "-oProxyCommand=x@h:p"} {
		wantErr(t, m.Checkout(t.Context(), url, nowhere, never), ErrUnsafe, "https://")
	}
	// A missing folder is a permanent error: it is on another machine.
	for _, missing := range []string{filepath.Join(c.dir, "gone"), "file://" + filepath.Join(c.dir, "gone"), t.TempDir()} {
		wantErr(t, m.Checkout(t.Context(), missing, nowhere, never), ErrNotRepository, "repository = ", "--repo")
	}
}

func TestCheckout_LinkOutOfRepository(t *testing.T) {
	for target, ok := range map[string]bool{
		"a": true, "dir/../a": true, "missing": true, "/etc/passwd": false, "../../x": false, "/": false,
		"up/../x": false, // up is a link to the top directory
	} {
		t.Run(strings.ReplaceAll(target, "/", "_"), func(t *testing.T) {
			c := newClone(t)
			c.write("a", "")
			c.write("dir/b", "")
			for name, to := range map[string]string{"up": ".", "link": target} {
				if err := os.Symlink(to, filepath.Join(c.dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			m, called := &Mirror{Dir: t.TempDir()}, false
			err := m.Checkout(t.Context(), c.dir, c.commit("links"), func(string) error { called = true; return nil })
			if ok != (err == nil) || ok != called {
				t.Errorf("got %v, called: %v; want ok: %v", err, called, ok)
			}
			if !ok {
				wantErr(t, err, ErrUnsafe, "link is a symbolic link")
			}
			if got := remainingCheckouts(t, m); len(got) > 0 {
				t.Errorf("left behind: %v", got)
			}
		})
	}
}

func TestCheckout_Concurrent(t *testing.T) {
	c := newClone(t)
	c.write("a", "1")
	one := c.commit("one")
	c.write("a", "2")
	two := c.commit("two")
	m := &Mirror{Dir: t.TempDir()}
	var started, done sync.WaitGroup
	started.Add(4)
	for i := range 4 {
		done.Go(func() {
			commit, want := one, "1"
			if i%2 == 1 {
				commit, want = two, "2"
			}
			err := m.Checkout(t.Context(), c.dir, commit, func(dir string) error {
				started.Done()
				started.Wait() // all four exist now
				if got := read(t, filepath.Join(dir, "a")); got != want {
					t.Errorf("got %q; want %q", got, want)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if got := remainingCheckouts(t, m); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestCheckout_RemovesAbandonedOnes(t *testing.T) {
	c := newClone(t)
	commit := c.commit("one")
	m := &Mirror{Dir: t.TempDir()}
	err := m.Checkout(t.Context(), c.dir, commit, func(dir string) error {
		parent := filepath.Dir(dir)
		for _, path := range []string{"dead/file", "unlocked/file"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(parent, path)), 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(parent, "dead.lock"), nil, 0o644); err != nil {
			return err
		}
		// The inner checkout removes the abandoned ones and not the outer one.
		err := m.Checkout(t.Context(), c.dir, commit, func(string) error {
			for _, name := range []string{"dead", "dead.lock", "unlocked"} {
				if _, err := os.Stat(filepath.Join(parent, name)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is still there", name)
				}
			}
			return nil
		})
		if _, gone := os.Stat(filepath.Join(dir, ".git")); gone != nil {
			t.Errorf("a checkout in use was removed: %v", gone)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckout_RemovedAfterCancelOrPanic(t *testing.T) {
	c := newClone(t)
	commit := c.commit("one")
	m := &Mirror{Dir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	err := m.Checkout(ctx, c.dir, commit, func(string) error { cancel(); return ctx.Err() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = m.Checkout(t.Context(), c.dir, commit, func(string) error { panic("x") })
	}()
	if got := remainingCheckouts(t, m); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}

func TestMirror_CancelledWhileWaitingForLock(t *testing.T) {
	c := newClone(t)
	commit := c.commit("one")
	m := &Mirror{Dir: t.TempDir()}
	r, err := m.repository(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	other := flock.New(filepath.Join(r.dir, "lock"))
	if err := other.Lock(); err != nil {
		t.Fatal(err)
	}
	defer other.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Revision(ctx, c.dir, commit); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCheckout_FromShallowClone(t *testing.T) {
	c := newClone(t)
	c.commit("one")
	two := c.commit("two")
	shallow := filepath.Join(t.TempDir(), "clone")
	c.git("clone", "--quiet", "--depth=1", "file://"+c.dir, shallow)
	m := &Mirror{Dir: t.TempDir()}
	if err := m.Checkout(t.Context(), shallow, two, func(string) error { return nil }); err != nil {
		t.Error(err)
	}
	r, err := m.repository(shallow)
	if err != nil {
		t.Fatal(err)
	}
	// Without a ref, garbage collection would remove the commit. Without a record
	// that its parent is missing, fsck would report the mirror as broken.
	if _, err := outputLine(t.Context(), r.git, "rev-parse", "--verify", "refs/release/"+two); err != nil {
		t.Error(err)
	}
	if _, err := output(t.Context(), r.git, "fsck"); err != nil {
		t.Error(err)
	}
}

// Submodules, hooks, filters and attributes of a repository are neither fetched
// nor run.
func TestCheckout_RunsNothingOfTheRepository(t *testing.T) {
	c := newClone(t)
	ran := filepath.Join(t.TempDir(), "ran")
	touch := "touch " + ran
	other := newClone(t)
	other.write("secret", "of another repository")
	c.write("a", "1")
	c.write(".gitattributes", "a filter=evil diff=evil merge=evil\n")
	c.write(".gitconfig", "[filter \"evil\"]\n\tsmudge = "+touch+"\n")
	c.write(".githooks/post-checkout", "#!/bin/sh\n"+touch+"\n")
	c.write("hooks/post-checkout", "#!/bin/sh\n"+touch+"\n")
	c.write(".gitmodules", "[submodule \"one\"]\n\tpath = one\n\turl = ext::sh -c "+strings.ReplaceAll(touch, " ", "% ")+"\n\tupdate = !"+touch+
		"\n[submodule \"two\"]\n\tpath = two\n\turl = "+other.dir+"\n[submodule \"--option\"]\n\tpath = -c\n\turl = -u./x\n")
	c.git("add", "--all")
	for _, path := range []string{"one", "two"} {
		c.git("update-index", "--add", "--cacheinfo", "160000,"+other.commit("x")+","+path)
	}
	c.git("commit", "--quiet", "--message=modules")
	// Hooks and settings of the clone that is fetched from are not run either.
	c.write(".git/hooks/post-checkout", "#!/bin/sh\n"+touch+"\n")
	if err := os.Chmod(filepath.Join(c.dir, ".git/hooks/post-checkout"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.git("config", "filter.evil.smudge", touch)
	c.git("config", "core.fsmonitor", touch)
	c.git("config", "uploadpack.packObjectsHook", touch)
	m := &Mirror{Dir: t.TempDir()}
	err := m.Checkout(t.Context(), c.dir, c.git("rev-parse", "HEAD"), func(dir string) error {
		for _, path := range []string{"one", "two"} {
			if found, err := os.ReadDir(filepath.Join(dir, path)); err != nil || len(found) > 0 {
				t.Errorf("submodule %s: %v, %v", path, found, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("something of the repository ran")
	}
}

// A machine's git settings may replace the checked address by another one. git
// still refuses a transport that runs programs.
func TestCheckout_TransportThatRunsPrograms(t *testing.T) {
	c := newClone(t)
	c.commit("one")
	ran := filepath.Join(t.TempDir(), "ran")
	config := filepath.Join(t.TempDir(), "config")
	text := "[url \"ext::sh -c touch% " + ran + "% \"]\n\tinsteadOf = https://example.com/\n[protocol]\n\tallow = always\n[protocol \"ext\"]\n\tallow = always\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_CONFIG_GLOBAL", config)
	t.Setenv("GIT_ALLOW_PROTOCOL", "ext")
	err := (&Mirror{Dir: t.TempDir()}).Checkout(t.Context(), "https://example.com/shop", strings.Repeat("ab", 20), func(string) error { return nil })
	var failed *Error
	if !errors.As(err, &failed) || !strings.Contains(failed.Stderr, "'ext' not allowed") {
		t.Errorf("got %v; want git to refuse the transport", err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the transport ran")
	}
}

// git refuses names in a tree that lead out of a checkout. Files refuses them too,
// although it reads trees without git's checks of a worktree.
func TestCheckout_PathOutOfRepository(t *testing.T) {
	c := newClone(t)
	c.write("x", "content")
	c.commit("one")
	blob := c.git("hash-object", "-w", "x")
	for _, name := range []string{"..", ".git"} {
		inner := c.gitWithInput("100644 blob "+blob+"\tescaped\n", "mktree")
		tree := c.gitWithInput("040000 tree "+inner+"\t"+name+"\n", "mktree")
		commit := c.git("commit-tree", "-m", "leave", tree)
		m := &Mirror{Dir: t.TempDir()}
		called := false
		err := m.Checkout(t.Context(), c.dir, commit, func(string) error { called = true; return nil })
		if err == nil || called {
			t.Errorf("%s: a checkout with such a name was made (%v)", name, err)
		}
		if found, _ := filepath.Glob(filepath.Join(m.Dir, "*", "checkouts", "escaped")); found != nil {
			t.Errorf("%s: git wrote %v", name, found)
		}
		if got := remainingCheckouts(t, m); len(got) > 0 {
			t.Errorf("left behind: %v", got)
		}
		if fsys, err := c.open().Files(t.Context(), commit); err == nil {
			if doc, err := fs.ReadFile(fsys, name+"/escaped"); err == nil && name == ".." {
				t.Errorf("%s: Files gives %q", name, doc)
			}
		}
	}
}

// gitWithInput runs git with the given input.
func (c *clone) gitWithInput(input string, args ...string) string {
	c.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = c.dir, strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// A fly.toml may name a link by local_path. The worker's file that it leads to is
// not read.
func TestFiles_LinkToWorkerFile(t *testing.T) {
	c := newClone(t)
	for name, to := range map[string]string{"motd": "/etc/passwd", "conf": "/etc"} {
		if err := os.Symlink(to, filepath.Join(c.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	c.write("release.toml", "x")
	fsys, err := c.open().Files(t.Context(), c.commit("links"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"motd", "conf/passwd", "../x", "/etc/passwd", "conf/../../x"} {
		if doc, err := fs.ReadFile(fsys, name); err == nil {
			t.Errorf("%s: got %q", name, doc)
		}
	}
}

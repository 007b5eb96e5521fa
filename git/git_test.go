package git

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A clone is a repository that a test writes to, as a user would.
type clone struct {
	t   *testing.T
	dir string
}

func newClone(t *testing.T) *clone {
	t.Helper()
	for _, key := range []string{"GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"} {
		t.Setenv(key, "Ada")
	}
	for _, key := range []string{"GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"} {
		t.Setenv(key, "ada@example.com")
	}
	t.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := &clone{t: t, dir: dir}
	c.git("init", "--quiet", "--initial-branch=main")
	return c
}

func (c *clone) git(args ...string) string {
	c.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = c.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (c *clone) write(path, content string) {
	c.t.Helper()
	path = filepath.Join(c.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// commit commits all files and returns the commit.
func (c *clone) commit(subject string) string {
	c.t.Helper()
	c.git("add", "--all")
	c.git("commit", "--quiet", "--allow-empty", "--message="+subject)
	return c.git("rev-parse", "HEAD")
}

func (c *clone) open() *Repo {
	c.t.Helper()
	r, err := Open(c.t.Context(), c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// wantErr fails the test unless err is of the given kind and contains all texts.
func wantErr(t *testing.T, err, kind error, texts ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got %v; want %v", err, kind)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got %q; want it to contain %q", err, text)
		}
	}
}

func TestOpen_Subdirectory(t *testing.T) {
	c := newClone(t)
	c.write("a/b", "x")
	r, err := Open(t.Context(), filepath.Join(c.dir, "a"))
	if err != nil || r.Dir != c.dir {
		t.Errorf("got %+v, %v; want %s", r, err, c.dir)
	}
	_, err = Open(t.Context(), t.TempDir())
	wantErr(t, err, ErrNotRepository, "git clone")
}

func TestResolve(t *testing.T) {
	c := newClone(t)
	r := c.open()
	_, err := r.Resolve(t.Context(), "")
	wantErr(t, err, ErrUnknown, "no commit yet")

	commit := c.commit("Début: \"one\"\n\nand more")
	c.git("tag", "--annotate", "--message=x", "v1")
	c.git("branch", "production")
	for _, rev := range []string{"", "HEAD", "main", "v1", commit, commit[:8], "production"} {
		got, err := r.Resolve(t.Context(), rev)
		if err != nil || got.Commit != commit {
			t.Errorf("%q: got %+v, %v", rev, got, err)
			continue
		}
		if got.Tree != c.git("rev-parse", "HEAD^{tree}") || got.Subject != `Début: "one"` || got.Author != "Ada" || got.Time.IsZero() {
			t.Errorf("%q: got %+v", rev, got)
		}
	}
	_, err = r.Resolve(t.Context(), "prodution")
	wantErr(t, err, ErrUnknown, "prodution", "nearest are: production")
	_, err = r.Resolve(t.Context(), commit[:1]+"zzz")
	wantErr(t, err, ErrUnknown)
}

// git chooses the tag if a branch has the same name. Without the error, the wrong
// revision would be released.
func TestResolve_AmbiguousName(t *testing.T) {
	c := newClone(t)
	first := c.commit("one")
	c.git("tag", "stable")
	c.commit("two")
	c.git("branch", "stable")
	_, err := c.open().Resolve(t.Context(), "stable")
	wantErr(t, err, ErrAmbiguous, "refs/heads/stable at ", "refs/tags/stable at "+first[:12])
	if rev, err := c.open().Resolve(t.Context(), "refs/tags/stable"); err != nil || rev.Commit != first {
		t.Errorf("the full name of the tag: %v, %v", rev.Commit, err)
	}
}

func TestRepo_NamesLikeOptions(t *testing.T) {
	c := newClone(t)
	commit := c.commit("one")
	r := c.open()
	for _, rev := range []string{"--all", "--output=x", "-h", "--exec-path=/tmp", "HEAD; touch x", "main --output=x", "^main", "main..main", "@{-1}"} {
		got, err := r.Resolve(t.Context(), rev)
		if err == nil {
			t.Errorf("%q: got %+v", rev, got)
		}
	}
	for _, rev := range []string{"--all", "HEAD", "", commit[:39], strings.ToUpper(commit) + "x"} {
		if _, err := r.Files(t.Context(), rev); !errors.Is(err, ErrUnknown) {
			t.Errorf("Files(%q): %v", rev, err)
		}
		if _, err := r.Pushed(t.Context(), rev, "origin"); !errors.Is(err, ErrUnknown) {
			t.Errorf("Pushed(%q): %v", rev, err)
		}
	}
	if url, err := r.Remote(t.Context(), "--all"); url != "" || err != nil {
		t.Errorf("Remote: %q, %v", url, err)
	}
	if written, _ := filepath.Glob(filepath.Join(c.dir, "x*")); written != nil {
		t.Errorf("git wrote %v", written)
	}
}

func TestRepo_DirtyPushedRemoteBranch(t *testing.T) {
	c := newClone(t)
	ctx := t.Context()
	c.write("a", "1")
	c.write(".gitignore", "ignored")
	commit := c.commit("one")
	r := c.open()
	wantDirty := func(want bool) {
		t.Helper()
		if got, err := r.Dirty(ctx); err != nil || got != want {
			t.Errorf("dirty: got %v, %v; want %v", got, err, want)
		}
	}
	c.write("ignored", "")
	wantDirty(false)
	c.write("new", "")
	wantDirty(true)
	c.commit("two")
	wantDirty(false)
	c.write("a", "2")
	wantDirty(true)

	if url, err := r.Remote(ctx, "origin"); url != "" || err != nil {
		t.Errorf("no remote: got %q, %v", url, err)
	}
	bare := t.TempDir()
	c.git("init", "--quiet", "--bare", bare)
	c.git("remote", "add", "origin", bare)
	c.git("push", "--quiet", "origin", commit+":refs/heads/main")
	head := c.git("rev-parse", "HEAD")
	if ok, err := r.Pushed(ctx, commit, "origin"); err != nil || !ok {
		t.Errorf("a pushed commit: %v, %v", ok, err)
	}
	if ok, err := r.Pushed(ctx, head, "origin"); err != nil || ok {
		t.Errorf("a commit that was not pushed: %v, %v", ok, err)
	}
	c.git("remote", "set-url", "origin", "../other")
	if url, err := r.Remote(ctx, "origin"); err != nil || url != filepath.Join(filepath.Dir(c.dir), "other") {
		t.Errorf("a relative path: got %q, %v", url, err)
	}
}

func TestFiles_CommittedContent(t *testing.T) {
	c := newClone(t)
	c.write("release.toml", "committed")
	c.write("infra/fly/api/staging/fly.toml", "app = \"x\"\r\n$Format:%H$")
	c.write("infra/secret", "")
	c.write("docker/Dockerfile", "FROM scratch\n")
	c.write(".gitattributes", "infra export-ignore\n*.toml -text export-subst filter=lfs\n")
	commit := c.commit("one")
	c.write("release.toml", "only in the worktree")
	fsys, err := c.open().Files(t.Context(), commit)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"release.toml": "committed", "infra/fly/api/staging/fly.toml": "app = \"x\"\r\n$Format:%H$", "infra/secret": "", "docker/Dockerfile": "FROM scratch\n"} {
		if got, err := fs.ReadFile(fsys, path); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", path, got, err, want)
		}
	}
	if found, err := fs.Glob(fsys, "infra/fly/*/*/fly.toml"); err != nil || len(found) != 1 {
		t.Errorf("glob: %v, %v", found, err)
	}
	if info, err := fs.Stat(fsys, "docker"); err != nil || !info.IsDir() {
		t.Errorf("a folder outside the configuration: %v", err)
	}
	c.git("rm", "-rq", "--cached", ".")
	c.git("commit", "--quiet", "--message=nothing", "--allow-empty")
	fsys, err = c.open().Files(t.Context(), c.git("rev-parse", "HEAD"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Stat(fsys, "release.toml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty commit: %v", err)
	}
}

func TestFiles_EscapingLinkOrTooLarge(t *testing.T) {
	c := newClone(t)
	c.write("infra/x", "")
	if err := os.MkdirAll(filepath.Join(c.dir, "infra/fly/api"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(c.dir, "infra/fly/api/fly.toml")); err != nil {
		t.Fatal(err)
	}
	_, err := c.open().Files(t.Context(), c.commit("a link"))
	wantErr(t, err, ErrUnsafe, "infra/fly/api/fly.toml is a symbolic link")

	c.git("rm", "-rq", "infra/fly")
	c.write("infra/big", strings.Repeat("x", maxBytes+1))
	_, err = c.open().Files(t.Context(), c.commit("too much"))
	wantErr(t, err, ErrUnsafe, "infra/big")
}

func TestError_HidesPasswords(t *testing.T) {
	got := (&Error{Command: "fetch", Stderr: cleanText("fatal: unable to access 'https://x:tok3n@example.com/a.git/':\n  Could not resolve host\n")}).Error()
	if want := "git fetch: unable to access 'https://…@example.com/a.git/': Could not resolve host"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	t.Setenv("PATH", t.TempDir())
	_, err := Open(t.Context(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "git is not installed") {
		t.Errorf("without git: %v", err)
	}
}

func TestCommand_HidesWorkerEnvironment(t *testing.T) {
	c := newClone(t)
	c.commit("one")
	t.Setenv("GIT_DIR", t.TempDir()) // set in a hook of another repository
	t.Setenv("FLY_API_TOKEN", "fm2_secret")
	if _, err := c.open().Resolve(t.Context(), "main"); err != nil {
		t.Error(err)
	}
	for _, v := range (command{}).env() {
		if strings.Contains(v, "secret") {
			t.Errorf("git sees %s", v)
		}
	}
}

func TestFiles_CancelledContext(t *testing.T) {
	c := newClone(t)
	commit := c.commit("one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.open().Files(ctx, commit); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

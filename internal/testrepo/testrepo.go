// Package testrepo creates repositories of projects for tests.
package testrepo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A Repository is a git repository in a temporary folder. Its methods fail the test if
// they fail.
type Repository struct {
	Dir string
	tb  testing.TB
}

// New returns an empty repository with the branch main.
func New(tb testing.TB) Repository {
	tb.Helper()
	r := Repository{tb.TempDir(), tb}
	r.Git("init", "-q", "-b", "main")
	r.Git("config", "user.name", "Ada")
	r.Git("config", "user.email", "ada@example.com")
	return r
}

// Write writes a file, named from the root of the repository.
func (r Repository) Write(name, text string) {
	r.tb.Helper()
	path := filepath.Join(r.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.tb.Fatal(err)
	}
}

// Git runs git in the repository and returns its output.
func (r Repository) Git(args ...string) string {
	r.tb.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.tb.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Commit commits all files and returns the first 12 digits of the commit.
func (r Repository) Commit(subject string) string {
	r.tb.Helper()
	r.Git("add", ".")
	r.Git("commit", "-q", "-m", subject)
	return r.Git("rev-parse", "HEAD")[:12]
}

// FlyToml returns the fly.toml of an app with one HTTP check and an env var LEVEL.
func FlyToml(flyApp, level string) string {
	return fmt.Sprintf(`app = %q
primary_region = "ams"
[env]
LEVEL = %q
[deploy]
wait_timeout = "3s"
[http_service]
internal_port = 8080
[[http_service.checks]]
path = "/health"
interval = "1s"
timeout = "1s"
grace_period = "1s"
`, flyApp, level)
}

package localstack

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/microbima/release/internal/cli"
	"github.com/microbima/release/release"
)

// A breakage is a fault of a revision that appears only in production.
type breakage struct {
	description string
	subject     string // of the commit
	health      string // apps/public-api/health.go; PRODUCTION is its Fly app
}

const (
	brokenApp   = "public-api"
	brokenFile  = "apps/public-api/health.go"
	changedFile = "apps/internal-api/message.go"
)

// validChange is a change of internal-api in the same commit. A rollback has to undo it,
// too.
const validChange = `package main

// message is the greeting of internal-api. It is the smallest visible change to release.
const message = "Hello again from internal-api"
`

// breakages maps the values of --break. Tests and staging pass with check, crash and
// bake.
var breakages = map[string]breakage{
	"check": {"its health check never passes", "Look at the database before serving", `package main

import (
	"errors"
	"os"
)

// healthy says whether the database is there.
func healthy() error {
	if os.Getenv("FLY_APP_NAME") == "PRODUCTION" {
		return errors.New("no connection to the database")
	}
	return nil
}
`},
	"crash": {"its process ends at start", "Read the settings before anything else", `package main

import (
	"fmt"
	"os"
)

var _ = settings()

// settings reads the settings that production needs.
func settings() string {
	if os.Getenv("FLY_APP_NAME") == "PRODUCTION" {
		fmt.Fprintln(os.Stderr, "settings: DATABASE_URL is not set")
		os.Exit(7)
	}
	return "none"
}

func healthy() error { return nil }
`},
	"bake": {"it passes its check, and turns bad while it bakes", "Keep connections open", `package main

import (
	"errors"
	"os"
	"time"
)

var started = time.Now()

// healthy says whether there is a connection left.
func healthy() error {
	if os.Getenv("FLY_APP_NAME") == "PRODUCTION" && time.Since(started) > 8*time.Second {
		return errors.New("no connection left in the pool")
	}
	return nil
}
`},
	"test": {"its tests fail", "Say what is missing", `package main

import "errors"

func healthy() error { return errors.New("no connection to the database") }
`},
	"build": {"it does not compile", "Ask the pool", `package main

func healthy() error { return pool.Ping() }
`},
}

func breakageNames() []string { return slices.Sorted(maps.Keys(breakages)) }

// commitTo clones the repository of src to dir and commits the breakage for environment
// there. It runs git with env.
func (b breakage) commitTo(ctx context.Context, env cli.Environ, src cli.Source, environment release.Environment, dir string) error {
	i := slices.IndexFunc(environment.Targets, func(t release.TargetFile) bool { return t.Target.App == brokenApp })
	if i < 0 {
		return fmt.Errorf("--break changes %s, and %s has no app %s: use it on this program's own repository", brokenFile, src.Repo.Dir, brokenApp)
	}
	for _, args := range [][]string{
		{"clone", "--quiet", "--template=", "--no-checkout", "--", src.Repo.Dir, dir},
		{"-C", dir, "checkout", "--quiet", "--detach", src.Revision.Commit},
	} {
		if err := runGit(ctx, env, args...); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		brokenFile: strings.ReplaceAll(b.health, "PRODUCTION", environment.Targets[i].FlyApp), changedFile: validChange,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("--break: %w", err)
		}
	}
	return runGit(ctx, env, "-C", dir, "commit", "--quiet", "--no-verify", "--no-gpg-sign", "-m", b.subject, "--", brokenFile, changedFile)
}

// runGit runs git with the identity of the demo and without hooks.
func runGit(ctx context.Context, env cli.Environ, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "core.hooksPath=" + os.DevNull, "-c", "advice.detachedHead=false"}, args...)...)
	cmd.Env = append(withoutSettings(env),
		"GIT_AUTHOR_NAME=Release Demo", "GIT_AUTHOR_EMAIL=demo@release.invalid",
		"GIT_COMMITTER_NAME=Release Demo", "GIT_COMMITTER_EMAIL=demo@release.invalid")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A breakage is a way to be bad in production.
type breakage struct {
	words   string
	subject string // of the commit
	health  string // apps/public-api/health.go; PRODUCTION is its Fly app
}

const (
	brokenApp  = "public-api"
	brokenFile = "apps/public-api/health.go"
	goodFile   = "apps/internal-api/message.go"
)

// goodChange is what internal-api gets in the same commit: a rollback has to
// take back what was good, too.
const goodChange = `package main

// message is the greeting of internal-api. It is the smallest visible change to release.
const message = "Hello again from internal-api"
`

// breakages are the ways there are. Tests and staging see nothing of the first
// three: that is what makes them dangerous.
func breakages() map[string]breakage {
	return map[string]breakage{
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

// settings reads what production must be told.
func settings() string {
	if os.Getenv("FLY_APP_NAME") == "PRODUCTION" {
		fmt.Fprintln(os.Stderr, "settings: DATABASE_URL is not set")
		os.Exit(7)
	}
	return "none"
}

func healthy() error { return nil }
`},
		"sour": {"it passes its check, and turns bad while it bakes", "Keep connections open", `package main

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
}

// breakIt clones the repository to dir and commits there what is bad in env.
func (c demo) breakIt(ctx context.Context, src source, env release.Environment, dir string) error {
	i := slices.IndexFunc(env.Targets, func(t release.TargetFile) bool { return t.Target.App == brokenApp })
	if i < 0 {
		return fmt.Errorf("--break changes %s, and %s has no app %s: use it on this program's own repository", brokenFile, src.repo.Dir, brokenApp)
	}
	commands := [][]string{
		{"clone", "--quiet", "--template=", "--no-checkout", "--", src.repo.Dir, dir},
		{"-C", dir, "checkout", "--quiet", "--detach", src.revision.Commit},
	}
	for _, args := range commands {
		if err := c.git(ctx, args...); err != nil {
			return err
		}
	}
	bad := breakages()[c.breakage]
	for name, text := range map[string]string{
		brokenFile: strings.ReplaceAll(bad.health, "PRODUCTION", env.Targets[i].FlyApp), goodFile: goodChange,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("--break: %w", err)
		}
	}
	return c.git(ctx, "-C", dir, "commit", "--quiet", "--no-verify", "--no-gpg-sign", "-m", bad.subject, "--", brokenFile, goodFile)
}

// git runs git as nobody in particular, without anybody's hooks.
func (c demo) git(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "core.hooksPath=" + os.DevNull, "-c", "advice.detachedHead=false"}, args...)...)
	cmd.Env = append(c.benchEnv(devFile{}, "").environ,
		"GIT_AUTHOR_NAME=Release Demo", "GIT_AUTHOR_EMAIL=demo@release.invalid",
		"GIT_COMMITTER_NAME=Release Demo", "GIT_COMMITTER_EMAIL=demo@release.invalid")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// photograph is every machine of an environment, as Fly shows it now.
func (c demo) photograph(ctx context.Context, env release.Environment) (map[string]fly.Machine, error) {
	all := map[string]fly.Machine{}
	for _, t := range env.Targets {
		machines, err := c.bench.fly.Machines(ctx, t.FlyApp)
		if err != nil {
			return nil, err
		}
		for _, m := range machines {
			all[t.FlyApp+" "+m.ID] = m
		}
	}
	return all, nil
}

// compare says whether the environment is as it was: the same machines, each
// with the same config, byte for byte, and the same image, serving as before.
func (c demo) compare(env release.Environment, before, after map[string]fly.Machine) error {
	var differs []string
	for name, was := range before {
		is, ok := after[name]
		switch {
		case !ok:
			differs = append(differs, name+" is gone")
		case !bytes.Equal(was.Config, is.Config):
			differs = append(differs, name+" has another config")
		case was.ImageRef.Digest != is.ImageRef.Digest:
			differs = append(differs, name+" runs another image")
		case was.State != is.State || was.Cordoned != is.Cordoned:
			differs = append(differs, fmt.Sprintf("%s is %s", name, is.State))
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			differs = append(differs, name+" is new")
		}
	}
	if len(differs) > 0 {
		slices.Sort(differs)
		return errors.New(env.Name + " is not as it was before the bad revision: " + strings.Join(differs, "; "))
	}
	c.say("\n%s is as it was before the bad revision: %d machines of %d apps, looked up on Fly; each one's config is the same, byte for byte.", env.Name, len(after), len(env.Targets))
	return nil
}

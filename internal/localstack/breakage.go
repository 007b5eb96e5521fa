package localstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
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
	description string
	subject     string // of the commit
	health      string // apps/public-api/health.go; PRODUCTION is its Fly app
}

const (
	brokenApp   = "public-api"
	brokenFile  = "apps/public-api/health.go"
	changedFile = "apps/internal-api/message.go"
)

// validChange is the change of internal-api in the same commit: a rollback has to
// take back what was good, too.
const validChange = `package main

// message is what internal-api greets with. Changing it is the smallest change
// that people can see.
const message = "Hello again from internal-api"
`

// breakages are by the value of --break. Tests and staging pass with the first three.
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

func breakageNames() []string { return slices.Sorted(maps.Keys(breakages)) }

// commitBreakage clones the repository to dir, and commits there what is bad in an
// environment.
func (d *demo) commitBreakage(ctx context.Context, env release.Environment, dir string) error {
	i := slices.IndexFunc(env.Targets, func(t release.TargetFile) bool { return t.Target.App == brokenApp })
	if i < 0 {
		return fmt.Errorf("--break changes %s, and %s has no app %s: use it on this program's own repository", brokenFile, d.src.Repo.Dir, brokenApp)
	}
	for _, args := range [][]string{
		{"clone", "--quiet", "--template=", "--no-checkout", "--", d.src.Repo.Dir, dir},
		{"-C", dir, "checkout", "--quiet", "--detach", d.src.Revision.Commit},
	} {
		if err := d.runGit(ctx, args...); err != nil {
			return err
		}
	}
	b := breakages[d.breakage]
	for name, text := range map[string]string{
		brokenFile: strings.ReplaceAll(b.health, "PRODUCTION", env.Targets[i].FlyApp), changedFile: validChange,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("--break: %w", err)
		}
	}
	return d.runGit(ctx, "-C", dir, "commit", "--quiet", "--no-verify", "--no-gpg-sign", "-m", b.subject, "--", brokenFile, changedFile)
}

// runGit runs git with an identity of its own, without hooks.
func (d *demo) runGit(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "core.hooksPath=" + os.DevNull, "-c", "advice.detachedHead=false"}, args...)...)
	cmd.Env = append(withoutSettings(d.Env),
		"GIT_AUTHOR_NAME=Release Demo", "GIT_AUTHOR_EMAIL=demo@release.invalid",
		"GIT_COMMITTER_NAME=Release Demo", "GIT_COMMITTER_EMAIL=demo@release.invalid")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// readMachines returns every machine of an environment, as Fly shows it now.
func (d *demo) readMachines(ctx context.Context, env release.Environment) (map[string]fly.Machine, error) {
	all := map[string]fly.Machine{}
	for _, t := range env.Targets {
		machines, err := d.stack.fly.Machines(ctx, t.FlyApp)
		if err != nil {
			return nil, err
		}
		for _, m := range machines {
			all[t.FlyApp+" "+m.ID] = m
		}
	}
	return all, nil
}

// compareMachines returns an error unless the environment is as it was: the same
// machines, each with the same config, byte for byte, the same image, and serving as
// before.
func (d *demo) compareMachines(env release.Environment, before, after map[string]fly.Machine) error {
	var differences []string
	for name, was := range before {
		is, ok := after[name]
		switch {
		case !ok:
			differences = append(differences, name+" is gone")
		case !bytes.Equal(was.Config, is.Config):
			differences = append(differences, name+" has another config")
		case was.ImageRef.Digest != is.ImageRef.Digest:
			differences = append(differences, name+" runs another image")
		case was.State != is.State || was.Cordoned != is.Cordoned:
			differences = append(differences, fmt.Sprintf("%s is %s", name, is.State))
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			differences = append(differences, name+" is new")
		}
	}
	if len(differences) > 0 {
		slices.Sort(differences)
		return errors.New(env.Name + " is not as it was before the bad revision: " + strings.Join(differences, "; "))
	}
	d.Say("\n%s is as it was before the bad revision: %d machines of %d apps, looked up on Fly; each one's config is the same, byte for byte.", env.Name, len(after), len(env.Targets))
	return nil
}

package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image"
	"github.com/microbima/release/image/buildkit"
)

// WorkerOptions configure a worker for work besides changing machines.
type WorkerOptions struct {
	Dir      string            // for checkouts and logs
	Registry string            // HOST or HOST/PATH to push images to; "" for that of the platform
	BuildKit string            // address of BuildKit, or ""
	Secrets  map[string]string // secrets that Dockerfiles may mount, by name
	Cache    buildkit.Cache
	Environ  []string // environment of tests
}

// NewActivities returns the activities of a worker for p.
func NewActivities(p Platform, o WorkerOptions) *activities.Activities {
	images := p.newRegistry()
	a := &activities.Activities{
		Fly: p.Client, Git: &git.Mirror{Dir: filepath.Join(o.Dir, "git")}, Registry: cmp.Or(o.Registry, p.Registry), Logs: o.Dir, Environ: o.Environ,
		Go: &image.Go{Keychain: images.Keychain}, Images: images, Insecure: images.Insecure, Tokens: fly.Tokens(p.Token),
	}
	if o.BuildKit != "" {
		a.Docker = &buildkit.Builder{Address: o.BuildKit, Keychain: images.Keychain, Secrets: o.Secrets, Cache: o.Cache}
	}
	if p.isDev() {
		a.Go = localBuilder{a.Go}
		if a.Docker != nil {
			a.Docker = localDocker{a.Docker}
		}
	}
	return a
}

// A localBuilder builds for the platform of this computer, because the machines of a
// release dev run here.
type localBuilder struct{ activities.Builder }

// Build implements activities.Builder.
func (b localBuilder) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	req.Platform = LocalPlatform
	return b.Builder.Build(ctx, src, req)
}

// A localDocker builds and tests for the platform of this computer.
type localDocker struct{ activities.Docker }

// Build implements activities.Builder.
func (d localDocker) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	return localBuilder{d.Docker}.Build(ctx, src, req)
}

// Test implements activities.Docker.
func (d localDocker) Test(ctx context.Context, src image.Source, req image.Request) error {
	req.Platform = LocalPlatform
	return d.Docker.Test(ctx, src, req)
}

// GoEnvironment returns the environment for tests: env and the paths of the go command's
// caches. The go command would derive them from HOME, which is empty for tests.
func GoEnvironment(ctx context.Context, env Environ, dir string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPATH")
	cmd.Dir, cmd.Env = dir, env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var caches map[string]string
	if err == nil {
		err = json.Unmarshal(out, &caches)
	}
	if err != nil {
		return nil, fmt.Errorf("read the cache directories of the go command: %w %s; install Go from https://go.dev/dl", err, bytes.TrimSpace(stderr.Bytes()))
	}
	environ := []string(env)
	for name, value := range caches {
		environ = append(environ[:len(environ):len(environ)], name+"="+value)
	}
	return environ, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image"
)

// here is the platform of this computer.
const here = runtime.GOOS + "/" + runtime.GOARCH

// A native builder builds for this computer, whatever platform Fly's machines
// have: it is where they will run.
type native struct{ activities.Builder }

// Build implements activities.Builder.
func (n native) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	req.Platform = here
	return n.Builder.Build(ctx, src, req)
}

// A nativeDocker builds and tests for this computer, too.
type nativeDocker struct{ activities.Docker }

// Build implements activities.Builder.
func (n nativeDocker) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	return native{n.Docker}.Build(ctx, src, req)
}

// Test implements activities.Docker.
func (n nativeDocker) Test(ctx context.Context, src image.Source, req image.Request) error {
	req.Platform = here
	return n.Docker.Test(ctx, src, req)
}

// An obliging Fly has every app that a release asks for. There is nobody on a
// laptop who would have to pay for it.
type obliging struct {
	*fly.Client
	sim *flysim.Sim
}

// App makes the app if there is none.
func (o obliging) App(ctx context.Context, name string) (fly.App, error) {
	app, err := o.Client.App(ctx, name)
	if errors.Is(err, fly.ErrNotFound) {
		o.sim.CreateApp(name, "")
		return o.Client.App(ctx, name)
	}
	return app, err
}

// A tracked mirror knows how many checkouts are in use: as long as one is, a
// test or a compiler runs in it.
type tracked struct {
	*git.Mirror
	inUse sync.WaitGroup
}

// Checkout implements activities.Git.
func (t *tracked) Checkout(ctx context.Context, url, commit string, fn func(dir string) error) error {
	t.inUse.Add(1)
	defer t.inUse.Done()
	return t.Mirror.Checkout(ctx, url, commit, fn)
}

// wait returns when no checkout is in use.
func (t *tracked) wait(limit time.Duration) error {
	free := make(chan struct{})
	go func() { t.inUse.Wait(); close(free) }()
	select {
	case <-free:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("a test or a build does not end within %s", limit)
	}
}

// Package localstack runs all services that releases need in one process: Temporal with
// its Web UI, a simulated Fly whose machines are processes, an image registry and a worker.
// It implements the commands release dev and release demo.
package localstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/microbima/release/client"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/fly/flysim/localrunner"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image/buildkit"
	"github.com/microbima/release/internal/cli"
	"github.com/microbima/release/internal/devserver"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

const (
	// checkInterval is the maximum interval of health checks. It is short, because a
	// user waits for them.
	checkInterval = 500 * time.Millisecond
	// pollInterval is the interval at which the worker polls.
	pollInterval = 250 * time.Millisecond
	// checkoutTimeout is the time that a stack waits for tests and builds when it
	// closes.
	checkoutTimeout = 10 * time.Second
)

// A localStack is the running services.
type localStack struct {
	cli.DevFile
	fly     *fly.Client
	sim     *flysim.Sim
	runner  *localrunner.Runner
	mirror  *trackedMirror
	fatal   chan error     // receives the error that stops the worker
	closers []func() error // in the order of start
}

// options configure a stack.
type options struct {
	dir                         string        // for all state except an in-memory Temporal
	inMemory                    bool          // whether Temporal stores nothing on disk
	temporal, ui, fly, registry int           // ports; 0 is any free one
	grace                       time.Duration // for running activities at the end
}

// startStack starts all services and writes their addresses to dev.json. If it returns an
// error, no service is running.
func startStack(ctx context.Context, w *cli.World, o options) (s *localStack, err error) {
	log.SetOutput(io.Discard) // libraries log errors that they also return
	s = &localStack{fatal: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
			s = nil
		}
	}()
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return s, fmt.Errorf("keep state: %w; RELEASE_STATE_DIR chooses another place", err)
	}
	environ, err := cli.GoEnvironment(ctx, w.Env, o.dir)
	if err != nil {
		return s, err
	}
	if err := s.startFly(o); err != nil {
		return s, err
	}
	if err := s.startTemporal(ctx, o); err != nil {
		return s, err
	}
	if err := s.startWorker(ctx, w, o, environ); err != nil {
		return s, err
	}
	s.PID = os.Getpid()
	remove, err := cli.WriteDevFile(w.Env, s.DevFile)
	if err != nil {
		return s, err
	}
	s.onClose(remove)
	return s, nil
}

// onClose adds a function that stops the service started last.
func (s *localStack) onClose(closer func() error) { s.closers = append(s.closers, closer) }

// close stops all services, in reverse order of start.
func (s *localStack) close() error {
	var errs error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = errors.Join(errs, s.closers[i]())
	}
	s.closers = nil
	return errs
}

// startFly starts the registry, the machines of earlier runs, and the API.
func (s *localStack) startFly(o options) error {
	listener, err := devserver.Listen(o.fly, "the simulated Fly")
	if err != nil {
		return err
	}
	s.onClose(func() error {
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) { // the server closes it
			return err
		}
		return nil
	})
	registry := localrunner.Options{}
	if o.registry != 0 {
		registry.Registry = net.JoinHostPort("127.0.0.1", strconv.Itoa(o.registry))
		probe, err := devserver.Listen(o.registry, "the image registry")
		if err != nil {
			return err
		}
		probe.Close()
	}
	if s.runner, err = localrunner.Open(filepath.Join(o.dir, "machines"), registry); err != nil {
		return err
	}
	s.onClose(s.runner.Close)
	s.Token = rand.Text()
	s.sim = &flysim.Sim{
		Runner: s.runner, Images: s.runner.Image, Token: s.Token,
		CheckEvery: checkInterval, Journal: filepath.Join(o.dir, "flysim.json"),
	}
	if err := s.sim.Open(); err != nil {
		return err
	}
	s.onClose(func() error { s.sim.Close(); return nil })
	server := &http.Server{Handler: s.sim, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(listener) }() // returns only ErrServerClosed
	s.onClose(server.Close)
	s.Fly, s.Registry = "http://"+listener.Addr().String(), s.runner.Registry()
	s.fly = &fly.Client{FlapsURL: s.Fly, APIURL: s.Fly, UIEXURL: s.Fly, Token: s.Token, Unlimited: true}
	return nil
}

func (s *localStack) startTemporal(ctx context.Context, o options) error {
	temporal := devserver.Options{Dir: filepath.Join(o.dir, "temporal"), Port: o.temporal, UIPort: o.ui, Attributes: client.SearchAttributes()}
	if o.inMemory {
		temporal.Dir = ""
	}
	server, err := devserver.Start(ctx, temporal)
	if err != nil {
		return err
	}
	s.onClose(server.Close)
	s.Temporal, s.UI = server.Address(), server.UI()
	return nil
}

func (s *localStack) startWorker(ctx context.Context, w *cli.World, o options, environ []string) error {
	connection, err := cli.ClientOptions(stackWorld(w, s.DevFile, o.dir))
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, connection)
	if err != nil {
		return fmt.Errorf("connect a worker to Temporal at %s: %w", s.Temporal, err)
	}
	s.onClose(func() error { c.Close(); return nil })
	s.mirror = &trackedMirror{Mirror: &git.Mirror{Dir: filepath.Join(o.dir, "git")}}
	platform := cli.Platform{Client: s.fly, Registry: s.Registry, Local: cli.LocalPlatform}
	a := cli.NewActivities(platform, cli.WorkerOptions{Dir: o.dir, BuildKit: buildkit.Find(ctx, "", w.Env.Get), Environ: environ})
	a.Fly, a.Git, a.Poll = autoCreateApps{s.fly, s.sim}, s.mirror, pollInterval
	worker := worker.New(c.SDK(), a, worker.Options{Builds: 4, Grace: o.grace, OnFatal: s.reportFatal})
	if err := worker.Start(); err != nil {
		return fmt.Errorf("start a worker: %w", err)
	}
	s.onClose(func() error { worker.Stop(); return s.mirror.waitForCheckouts(checkoutTimeout) })
	return nil
}

// reportFatal sends the first fatal error of the worker.
func (s *localStack) reportFatal(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}

// createApps creates the Fly apps and secrets that the files of a project name, as a team
// does once on the real Fly. It returns the secrets that got placeholder values.
func (s *localStack) createApps(ctx context.Context, p *release.Project) (madeUp []string, err error) {
	for _, environment := range p.Environments {
		for _, t := range environment.Targets {
			s.sim.CreateApp(t.FlyApp, "")
			app, _ := p.App(t.Target.App)
			names, err := s.createSecrets(ctx, t.FlyApp, app.Secrets)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				madeUp = append(madeUp, name+" of "+t.FlyApp)
			}
		}
	}
	return madeUp, nil
}

// createSecrets sets placeholder values for missing secrets and returns their names.
func (s *localStack) createSecrets(ctx context.Context, flyApp string, names []string) (created []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	existing, err := s.fly.Secrets(ctx, flyApp)
	if err != nil {
		return nil, err
	}
	missing := map[string]string{}
	for _, name := range names {
		missing[name] = "made-up-by-release"
	}
	for _, secret := range existing {
		delete(missing, secret.Name)
	}
	if len(missing) > 0 {
		s.sim.SetSecrets(flyApp, missing)
	}
	for name := range missing {
		created = append(created, name)
	}
	return created, nil
}

// autoCreateApps is a Fly client that creates apps on first use, because simulated apps are
// free.
type autoCreateApps struct {
	*fly.Client
	sim *flysim.Sim
}

// App returns an app, and creates it if it does not exist.
func (a autoCreateApps) App(ctx context.Context, name string) (fly.App, error) {
	app, err := a.Client.App(ctx, name)
	if errors.Is(err, fly.ErrNotFound) {
		a.sim.CreateApp(name, "")
		return a.Client.App(ctx, name)
	}
	return app, err
}

// A trackedMirror counts the checkouts that tests and builds use.
type trackedMirror struct {
	*git.Mirror
	inUse sync.WaitGroup
}

// Checkout implements activities.Git.
func (m *trackedMirror) Checkout(ctx context.Context, url, commit string, fn func(dir string) error) error {
	m.inUse.Add(1)
	defer m.inUse.Done()
	return m.Mirror.Checkout(ctx, url, commit, fn)
}

// waitForCheckouts returns when no checkout is in use, or with an error after limit.
func (m *trackedMirror) waitForCheckouts(limit time.Duration) error {
	done := make(chan struct{})
	go func() { m.inUse.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("a test or a build did not end within %s", limit)
	}
}

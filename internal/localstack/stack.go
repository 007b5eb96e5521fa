// Package localstack runs what releases need in one process: Temporal with its Web
// UI, a simulated Fly whose machines are processes, an image registry and a worker.
// It has the commands release dev and release demo.
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
	// checkInterval is the longest interval of a machine's checks here: a person
	// waits for them.
	checkInterval = 500 * time.Millisecond
	// pollInterval is how often the worker reads what it waits for.
	pollInterval = 250 * time.Millisecond
	// checkoutTimeout limits how long a stack waits, at its end, for a test or a
	// build.
	checkoutTimeout = 10 * time.Second
)

// A localStack is everything that a release needs.
type localStack struct {
	cli.DevFile
	fly     *fly.Client
	sim     *flysim.Sim
	runner  *localrunner.Runner
	mirror  *trackedMirror
	fatal   chan error     // receives why the worker cannot continue
	closers []func() error // in the order in which things were started
}

// options say where a stack keeps its state, and where it listens.
type options struct {
	dir                         string        // of everything but what Temporal keeps in memory
	inMemory                    bool          // Temporal keeps nothing
	temporal, ui, fly, registry int           // ports; 0 is any free one
	grace                       time.Duration // for activities in hand at the end
}

// start starts everything and announces it in dev.json. If that fails it leaves
// nothing running.
func start(ctx context.Context, w *cli.World, o options) (s *localStack, err error) {
	log.SetOutput(io.Discard) // libraries log to it what they also return
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

// onClose adds a function that ends what was started last.
func (s *localStack) onClose(closer func() error) { s.closers = append(s.closers, closer) }

// close ends everything, last started first.
func (s *localStack) close() error {
	var errs error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = errors.Join(errs, s.closers[i]())
	}
	s.closers = nil
	return errs
}

// startFly starts the registry, the machines that ran, and the API.
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
	go func() { _ = server.Serve(listener) }() // ends with Close, with that error only
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
	connection, err := cli.ClientOptions(worldOf(w, s.DevFile, o.dir))
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
	s.onClose(func() error { worker.Stop(); return s.mirror.wait(checkoutTimeout) })
	return nil
}

// reportFatal reports once why the worker cannot continue.
func (s *localStack) reportFatal(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}

// createApps creates the Fly apps that a project's files name, and their secrets, as
// a team has done once on the real Fly. It returns the secrets whose values are made
// up.
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

// createSecrets sets the secrets that a Fly app lacks, and returns their names.
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

// autoCreateApps is a Fly that creates every app that a release asks for: on this
// computer it costs nothing.
type autoCreateApps struct {
	*fly.Client
	sim *flysim.Sim
}

// App returns an app, and creates it if there is none.
func (a autoCreateApps) App(ctx context.Context, name string) (fly.App, error) {
	app, err := a.Client.App(ctx, name)
	if errors.Is(err, fly.ErrNotFound) {
		a.sim.CreateApp(name, "")
		return a.Client.App(ctx, name)
	}
	return app, err
}

// A trackedMirror counts the checkouts in use: a test or a compiler runs in each.
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

// wait returns when no checkout is in use, or with an error after the limit.
func (m *trackedMirror) wait(limit time.Duration) error {
	done := make(chan struct{})
	go func() { m.inUse.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("a test or a build did not end within %s", limit)
	}
}

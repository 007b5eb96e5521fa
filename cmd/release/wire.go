package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"go.temporal.io/sdk/client"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/fly/flysim/localrunner"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image"
	"github.com/microbima/release/image/buildkit"
	"github.com/microbima/release/internal/devserver"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// checkEvery is how often machines on a laptop are checked at the most: nobody
// wants to wait as long there as a platform may.
const checkEvery = 500 * time.Millisecond

// A bench is everything that a release needs, in this process: Temporal with its
// Web UI, a Fly whose machines are processes, an image registry, a worker.
type bench struct {
	devFile
	fly    *fly.Client
	sim    *flysim.Sim
	runner *localrunner.Runner
	git    *tracked
	broken chan error     // gets the reason when the worker can't go on
	undo   []func() error // in the order in which things were started
}

// benchOptions say where a bench keeps what it has, and where it listens.
type benchOptions struct {
	dir                         string        // of everything but what Temporal keeps in memory
	inMemory                    bool          // Temporal forgets
	temporal, ui, fly, registry int           // ports; 0 is any free one
	grace                       time.Duration // for activities in hand at the end
}

// openBench starts everything and announces it in dev.json. On failure it
// leaves nothing running.
func (e *env) openBench(ctx context.Context, o benchOptions) (b *bench, err error) {
	log.SetOutput(io.Discard) // libraries talk to it; what matters they also return
	b = &bench{broken: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
			b = nil
		}
	}()
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return b, fmt.Errorf("keep state: %w; RELEASE_STATE_DIR chooses another place", err)
	}
	environ, err := e.toolchain(ctx, o.dir)
	if err != nil {
		return b, err
	}
	if err := b.startFly(o); err != nil {
		return b, err
	}
	if err := b.startTemporal(ctx, o); err != nil {
		return b, err
	}
	if err := b.startWorker(ctx, e, o, environ); err != nil {
		return b, err
	}
	b.PID = os.Getpid()
	remove, err := e.writeDevFile(b.devFile)
	if err != nil {
		return b, err
	}
	b.then(remove)
	return b, nil
}

// then says how to end what was started last.
func (b *bench) then(undo func() error) { b.undo = append(b.undo, undo) }

// close ends everything, last started first.
func (b *bench) close() error {
	var all error
	for i := len(b.undo) - 1; i >= 0; i-- {
		all = errors.Join(all, b.undo[i]())
	}
	b.undo = nil
	return all
}

// startFly starts the registry, the machines that ran, and the API.
func (b *bench) startFly(o benchOptions) error {
	listener, err := devserver.Listen(o.fly, "the simulated Fly")
	if err != nil {
		return err
	}
	b.then(func() error {
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) { // the server closes it
			return err
		}
		return nil
	})
	options := localrunner.Options{}
	if o.registry != 0 {
		options.Registry = net.JoinHostPort("127.0.0.1", strconv.Itoa(o.registry))
		probe, err := devserver.Listen(o.registry, "the image registry")
		if err != nil {
			return err
		}
		probe.Close()
	}
	if b.runner, err = localrunner.Open(filepath.Join(o.dir, "machines"), options); err != nil {
		return err
	}
	b.then(b.runner.Close)
	b.Token = rand.Text()
	b.sim = &flysim.Sim{
		Runner: b.runner, Images: b.runner.Image, Token: b.Token,
		CheckEvery: checkEvery, Journal: filepath.Join(o.dir, "flysim.json"),
	}
	if err := b.sim.Open(); err != nil {
		return err
	}
	b.then(func() error { b.sim.Close(); return nil })
	server := &http.Server{Handler: b.sim, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(listener) }() // ends with Close, and says only that
	b.then(server.Close)
	b.Fly, b.Registry = "http://"+listener.Addr().String(), b.runner.Registry()
	b.fly = &fly.Client{FlapsURL: b.Fly, APIURL: b.Fly, UIEXURL: b.Fly, Token: b.Token, Unlimited: true}
	return nil
}

func (b *bench) startTemporal(ctx context.Context, o benchOptions) error {
	options := devserver.Options{Dir: filepath.Join(o.dir, "temporal"), Port: o.temporal, UIPort: o.ui, Attributes: attributes()}
	if o.inMemory {
		options.Dir = ""
	}
	server, err := devserver.Start(ctx, options)
	if err != nil {
		return err
	}
	b.then(server.Close)
	b.Temporal, b.UI = server.Address(), server.UI()
	return nil
}

func (b *bench) startWorker(ctx context.Context, e *env, o benchOptions, environ []string) error {
	options, err := e.benchEnv(b.devFile, o.dir).temporalOptions()
	if err != nil {
		return err
	}
	c, err := client.Dial(options)
	if err != nil {
		return fmt.Errorf("connect a worker to Temporal at %s: %w", b.Temporal, err)
	}
	b.then(func() error { c.Close(); return nil })
	b.git = &tracked{Mirror: &git.Mirror{Dir: filepath.Join(o.dir, "git")}}
	a := realActivities(place{b.fly, b.Registry, here}, workerOptions{dir: o.dir, buildkit: buildkit.Find(ctx, "", e.getenv), environ: environ})
	a.Fly, a.Git, a.Poll = obliging{b.fly, b.sim}, b.git, 250*time.Millisecond
	w := worker.New(c, a, worker.Options{Builds: 4, Grace: o.grace, OnFatal: b.breaks})
	if err := w.Start(); err != nil {
		return fmt.Errorf("start a worker: %w", err)
	}
	b.then(func() error { w.Stop(); return b.git.wait(10 * time.Second) })
	return nil
}

// breaks says once that the worker can't go on.
func (b *bench) breaks(err error) {
	select {
	case b.broken <- err:
	default:
	}
}

// provide makes the Fly apps that a project's files name, and its secrets: what
// a team has done once on the real Fly. It returns the secrets it made up.
func (b *bench) provide(ctx context.Context, p *release.Project) (madeUp []string, err error) {
	for _, environment := range p.Environments {
		for _, t := range environment.Targets {
			b.sim.CreateApp(t.FlyApp, "")
			app, _ := p.App(t.Target.App)
			if len(app.Secrets) == 0 {
				continue
			}
			have, err := b.fly.Secrets(ctx, t.FlyApp)
			if err != nil {
				return nil, err
			}
			missing := map[string]string{}
			for _, name := range app.Secrets {
				missing[name] = "made-up-by-release"
			}
			for _, s := range have {
				delete(missing, s.Name)
			}
			if len(missing) > 0 {
				b.sim.SetSecrets(t.FlyApp, missing)
			}
			for name := range missing {
				madeUp = append(madeUp, name+" of "+t.FlyApp)
			}
		}
	}
	return madeUp, nil
}

// benchEnv is the world as somebody sees it who has no settings and uses the
// bench with that state: whatever Temporal or Fly is set for e, it is not meant.
func (e *env) benchEnv(dev devFile, dir string) *env {
	inner := *e
	inner.environ = nil
	for _, entry := range e.environ {
		if !foreign(entry) {
			inner.environ = append(inner.environ, entry)
		}
	}
	inner.environ = append(inner.environ, "RELEASE_STATE_DIR="+dir, "TEMPORAL_ADDRESS="+dev.Temporal,
		"TEMPORAL_CONFIG_FILE="+filepath.Join(dir, "no-temporal.toml"))
	return &inner
}

// foreign says whether a variable leads to another Temporal, Fly or repository.
func foreign(entry string) bool {
	for _, prefix := range []string{"TEMPORAL_", "FLY_", "GIT_DIR=", "GIT_WORK_TREE=", "GIT_INDEX_FILE="} {
		if len(entry) >= len(prefix) && entry[:len(prefix)] == prefix {
			return true
		}
	}
	return false
}

// toolchain is what tests may see of e, with the caches of the go command: they
// are found through HOME otherwise, and tests get an empty one.
func (e *env) toolchain(ctx context.Context, dir string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPATH")
	cmd.Dir, cmd.Env = dir, e.environ
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	var known map[string]string
	if err == nil {
		err = json.Unmarshal(out, &known)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the go command where it keeps its caches: %w %s; install Go from https://go.dev/dl", err, bytes.TrimSpace(words.Bytes()))
	}
	environ := e.environ
	for name, value := range known {
		environ = append(environ[:len(environ):len(environ)], name+"="+value)
	}
	return environ, nil
}

// attributes are the search attributes that releases set.
func attributes() []string {
	return []string{release.AttrProject, release.AttrRevision, release.AttrEnvironment, release.AttrPhase, release.AttrOutcome}
}

// workerOptions say what a worker can do besides changing machines.
type workerOptions struct {
	dir      string            // of checkouts and logs
	registry string            // HOST or HOST/PATH to push images to; "" is the place's
	buildkit string            // address of BuildKit; "" is none
	secrets  map[string]string // what Dockerfiles may mount, by name
	cache    buildkit.Cache
	environ  []string // what tests may see of
}

// realActivities are those of a worker for a real Fly, or for whatever place is.
func realActivities(p place, o workerOptions) *activities.Activities {
	images := p.images()
	a := &activities.Activities{
		Fly: p.Client, Git: &git.Mirror{Dir: filepath.Join(o.dir, "git")}, Registry: cmp.Or(o.registry, p.registry), Logs: o.dir, Environ: o.environ,
		Go: &image.Go{Keychain: images.Keychain}, Images: images, Insecure: images.Insecure, Tokens: fly.Tokens(p.Token),
	}
	if o.buildkit != "" {
		a.Docker = &buildkit.Builder{Address: o.buildkit, Keychain: images.Keychain, Secrets: o.secrets, Cache: o.cache}
	}
	if p.platform != "" {
		a.Go = native{a.Go}
		if a.Docker != nil {
			a.Docker = nativeDocker{a.Docker}
		}
	}
	return a
}

// A keychain opens Fly's registry with Fly's token, and any other as Docker's
// settings say.
type keychain struct{ host, password string }

// Resolve implements authn.Keychain.
func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if r.RegistryStr() == k.host && k.password != "" {
		return &authn.Basic{Username: "x", Password: k.password}, nil
	}
	return authn.DefaultKeychain.Resolve(r)
}

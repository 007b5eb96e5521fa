package localrunner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/microbima/release/fly/flysim"
)

// registryName is the name of the registry's stored port. No app can have this
// name.
const registryName = "the registry"

// Options configure a Runner. The zero value is valid.
type Options struct {
	// Registry is the loopback address, host:port, for pushing and pulling
	// images. "" selects a free port, the same one each time. Machine configs
	// contain the address, so it should not change while there are any.
	Registry string
}

// markerName is the env var that marks the processes of a Runner.
const markerName = "FLYSIM_RUNNER"

// A Runner runs Fly machines as processes of this computer. It implements
// flysim.Runner and is safe for concurrent use.
type Runner struct {
	dir    string
	marker string
	lock   *flock.Flock

	images   *imageStore
	ports    *portBook
	spawner  spawner
	registry *http.Server

	launching sync.RWMutex // read-locked while a process is started
	mu        sync.Mutex
	closed    bool
	running   map[*process]string // → pid file
	proxies   map[string]*appProxy
}

var _ flysim.Runner = (*Runner)(nil)

// Open returns a Runner on the folder dir, which it creates if necessary, with
// everything that an earlier Runner stored there. It kills the processes that
// the earlier one left. A folder has one Runner at a time.
func Open(dir string, o Options) (_ *Runner, err error) {
	r := &Runner{running: map[*process]string{}, proxies: map[string]*appProxy{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("run machines in %s: %w", dir, err), r.unlock())
		}
	}()
	if err := r.claimFolder(dir); err != nil {
		return nil, err
	}
	if r.ports, err = openPorts(r.path("ports.json")); err != nil {
		return nil, err
	}
	if err := r.serveRegistry(o.Registry); err != nil {
		return nil, err
	}
	r.spawner = newSpawner()
	for _, name := range r.ports.names() {
		if name != registryName {
			_ = r.URL(name) // so that requests get an answer before the machines run
		}
	}
	return r, nil
}

// Registry returns the host:port to push images to. Machines run images from
// this registry whatever registry their configs name, including
// registry.fly.io.
func (r *Runner) Registry() string { return r.images.registry }

// Image returns the digest of an image reference in the registry, and whether
// the image exists. It implements flysim's Sim.Images.
func (r *Runner) Image(ref string) (digest string, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return r.images.digest(ctx, ref)
}

// Start runs m as a process with a port of its own in PORT. It returns as soon
// as the process exists; checks find out whether it serves. The error names the
// reason: a missing image or program, or an image for another platform.
func (r *Runner) Start(ctx context.Context, m flysim.Instance) (flysim.Process, error) {
	p, err := r.startMachine(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("start machine %s of %s: %w", m.ID, m.App, err)
	}
	return p, nil
}

// Route sets the machines that serve an app's URL from now on. Open requests
// are not cut.
func (r *Runner) Route(app string, backends []flysim.Backend) {
	if p, err := r.proxyFor(app); err == nil {
		p.setBackends(backends)
	}
}

// URL returns the URL of an app. It stays the same after a restart, unless
// another program uses its port, and responds as soon as Open returns. It is ""
// if no port is free, and after Close.
func (r *Runner) URL(app string) string {
	p, err := r.proxyFor(app)
	if err != nil {
		return ""
	}
	return p.url
}

// Close ends the proxies, every process with its descendants, and the registry.
// Files stay for the next Runner.
func (r *Runner) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	proxies := r.proxies
	r.mu.Unlock()
	for _, p := range proxies {
		p.close()
	}
	r.launching.Lock() // every process that was being started is registered now
	defer r.launching.Unlock()
	r.mu.Lock()
	var running []*process
	for p := range r.running {
		running = append(running, p)
	}
	r.mu.Unlock()
	for _, p := range running {
		p.kill()
	}
	for _, p := range running {
		<-p.Done()
	}
	close(r.spawner)
	return errors.Join(killMarked(r.marker), r.registry.Close(), r.unlock())
}

// claimFolder locks dir and kills the processes that an earlier owner left.
func (r *Runner) claimFolder(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if r.dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	lock := flock.New(r.path("lock"))
	switch ok, err := lock.TryLock(); {
	case err != nil:
		return err
	case !ok:
		return errors.New("in use by another process: end it, or use another folder")
	}
	r.lock = lock
	r.marker = markerName + "=" + r.dir
	for _, d := range []string{"images", "logs", "processes", "scratch"} {
		if err := os.MkdirAll(r.path(d), 0o700); err != nil {
			return err
		}
	}
	if err := killStrays(r.path("processes"), r.marker); err != nil {
		return err
	}
	return removeLeftovers(r.path("scratch", "*"), r.path("images", ".tmp-*"), r.path(".tmp-*"), r.path("processes", ".tmp-*"))
}

func (r *Runner) unlock() error {
	if r.lock == nil {
		return nil
	}
	return r.lock.Unlock()
}

func (r *Runner) path(elem ...string) string {
	return filepath.Join(append([]string{r.dir}, elem...)...)
}

func (r *Runner) serveRegistry(addr string) error {
	store, err := openRegistry(r.path("registry"))
	if err != nil {
		return fmt.Errorf("open the registry: %w", err)
	}
	listener, err := r.listenRegistry(addr)
	if err != nil {
		return fmt.Errorf("listen for the registry: %w", err)
	}
	r.registry = &http.Server{Handler: store, ReadHeaderTimeout: 30 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = r.registry.Serve(listener) }() // returns only after Close
	r.images = &imageStore{dir: r.path("images"), registry: listener.Addr().String(), transport: directTransport()}
	return nil
}

func (r *Runner) listenRegistry(addr string) (net.Listener, error) {
	if addr == "" {
		return r.ports.listen(registryName)
	}
	if !isLoopbackHost(addr) {
		return nil, fmt.Errorf("%s is not a loopback address, so other computers could push images; use 127.0.0.1", addr)
	}
	return net.Listen("tcp", addr)
}

// proxyFor returns the proxy of an app, and starts it on first use.
func (r *Runner) proxyFor(app string) (*appProxy, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.proxies[app]; ok {
		return p, nil
	}
	if r.closed {
		return nil, errClosed
	}
	listener, err := r.ports.listen(app)
	if err != nil {
		return nil, err
	}
	p := newAppProxy(app, listener)
	r.proxies[app] = p
	return p, nil
}

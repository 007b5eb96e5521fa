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

// registryName is under which the registry's port is remembered. No app can have
// this name.
const registryName = "the registry"

// Options are what a Runner may be told. The zero value is good.
type Options struct {
	// Registry is the loopback address, host:port, on which images are pushed
	// and pulled. "" is a free port, the same one each time. Machine configs
	// name images by it, so it should not change while there are any.
	Registry string
}

// A Runner runs Fly machines as processes of this computer. It is a
// flysim.Runner, and is safe for concurrent use.
type Runner struct {
	dir    string
	marker string
	lock   *flock.Flock

	images   *imageStore
	ports    *portBook
	spawner  spawner
	registry *http.Server

	launching sync.RWMutex // held for reading while a process is started
	mu        sync.Mutex
	closed    bool
	running   map[*process]string // → pid file
	proxies   map[string]*appProxy
}

var _ flysim.Runner = (*Runner)(nil)

// Open makes a Runner of the folder dir, which is made if need be, and of
// whatever an earlier one kept there. Processes which that one could not end are
// ended. A folder has one Runner at a time.
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
			_ = r.URL(name) // who comes before its machines is told so
		}
	}
	return r, nil
}

// Registry is the host:port to push images to. Machines run images of this
// registry whatever registry their configs name, registry.fly.io too.
func (r *Runner) Registry() string { return r.images.registry }

// Image says which digest an image reference has in the registry, and whether
// there is such an image: what flysim's Sim wants to know in Images.
func (r *Runner) Image(ref string) (digest string, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return r.images.digest(ctx, ref)
}

// Start runs m as a process, with a port of its own in PORT. It returns as soon
// as the process exists; whether it serves is for checks to find out. An error
// says why there is none: an image that is gone or of another platform, a
// program that is missing.
func (r *Runner) Start(ctx context.Context, m flysim.Instance) (flysim.Process, error) {
	p, err := r.startMachine(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("start machine %s of %s: %w", m.ID, m.App, err)
	}
	return p, nil
}

// Route tells which machines of an app serve its URL from now on. Requests that
// are under way are not cut.
func (r *Runner) Route(app string, backends []flysim.Backend) {
	if e, err := r.proxyFor(app); err == nil {
		e.setBackends(backends)
	}
}

// URL is where an app is served: the same each time, also after a restart, when
// it answers from Open on, as long as nobody else takes its port. It is "" when there is no port to be had,
// and after Close.
func (r *Runner) URL(app string) string {
	e, err := r.proxyFor(app)
	if err != nil {
		return ""
	}
	return e.url
}

// Close ends everything at once: the edges, every process with its descendants,
// the registry. What is kept on disk is for the next Runner.
func (r *Runner) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	edges := r.proxies
	r.mu.Unlock()
	for _, e := range edges {
		e.close()
	}
	r.launching.Lock() // who began to start a process has registered it now
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
		<-p.done
	}
	close(r.spawner)
	return errors.Join(killMarked(r.marker), r.registry.Close(), r.unlock())
}

// own takes possession of dir: alone, and with nobody left running there.
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
		return errors.New("another process does already: end it, or use another folder")
	}
	r.lock = lock
	r.marker = "FLYSIM_RUNNER=" + r.dir
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
	go func() { _ = r.registry.Serve(listener) }() // ends with Close, and says only that
	r.images = &imageStore{dir: r.path("images"), registry: listener.Addr().String(), transport: directTransport()}
	return nil
}

func (r *Runner) listenRegistry(addr string) (net.Listener, error) {
	if addr == "" {
		return r.ports.listen(registryName)
	}
	if !isLoopbackHost(addr) {
		return nil, fmt.Errorf("%s is no loopback address: anybody could push images; use 127.0.0.1", addr)
	}
	return net.Listen("tcp", addr)
}

// edge is the app's, opened when it is first asked for.
func (r *Runner) proxyFor(app string) (*appProxy, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.proxies[app]; ok {
		return e, nil
	}
	if r.closed {
		return nil, errClosed
	}
	listener, err := r.ports.listen(app)
	if err != nil {
		return nil, err
	}
	e := newAppProxy(app, listener)
	r.proxies[app] = e
	return e, nil
}

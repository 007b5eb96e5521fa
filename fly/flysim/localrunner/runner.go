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

	images   *images
	ports    *ports
	spawn    spawner
	registry *http.Server

	launching sync.RWMutex // held for reading while a process is started
	mu        sync.Mutex
	closed    bool
	running   map[*process]string // → pid file
	edges     map[string]*edge
}

var _ flysim.Runner = (*Runner)(nil)

// Open makes a Runner of the folder dir, which is made if need be, and of
// whatever an earlier one kept there. Processes which that one could not end are
// ended. A folder has one Runner at a time.
func Open(dir string, o Options) (_ *Runner, err error) {
	l := &Runner{running: map[*process]string{}, edges: map[string]*edge{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("run machines in %s: %w", dir, err), l.unlock())
		}
	}()
	if err := l.own(dir); err != nil {
		return nil, err
	}
	if l.ports, err = openPorts(l.path("ports.json")); err != nil {
		return nil, err
	}
	if err := l.serveRegistry(o.Registry); err != nil {
		return nil, err
	}
	l.spawn = newSpawner()
	for _, name := range l.ports.names() {
		if name != registryName {
			_ = l.URL(name) // who comes before its machines is told so
		}
	}
	return l, nil
}

// Registry is the host:port to push images to. Machines run images of this
// registry whatever registry their configs name, registry.fly.io too.
func (l *Runner) Registry() string { return l.images.registry }

// Image says which digest an image reference has in the registry, and whether
// there is such an image: what flysim's Sim wants to know in Images.
func (l *Runner) Image(ref string) (digest string, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return l.images.digest(ctx, ref)
}

// Start runs m as a process, with a port of its own in PORT. It returns as soon
// as the process exists; whether it serves is for checks to find out. An error
// says why there is none: an image that is gone or of another platform, a
// program that is missing.
func (l *Runner) Start(ctx context.Context, m flysim.Instance) (flysim.Process, error) {
	p, err := l.start(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("start machine %s of %s: %w", m.ID, m.App, err)
	}
	return p, nil
}

// Route tells which machines of an app serve its URL from now on. Requests that
// are under way are not cut.
func (l *Runner) Route(app string, backends []flysim.Backend) {
	if e, err := l.edge(app); err == nil {
		e.route(backends)
	}
}

// URL is where an app is served: the same each time, also after a restart, when
// it answers from Open on, as long as nobody else takes its port. It is "" when there is no port to be had,
// and after Close.
func (l *Runner) URL(app string) string {
	e, err := l.edge(app)
	if err != nil {
		return ""
	}
	return e.url
}

// Close ends everything at once: the edges, every process with its descendants,
// the registry. What is kept on disk is for the next Runner.
func (l *Runner) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	edges := l.edges
	l.mu.Unlock()
	for _, e := range edges {
		e.close()
	}
	l.launching.Lock() // who began to start a process has registered it now
	defer l.launching.Unlock()
	l.mu.Lock()
	var running []*process
	for p := range l.running {
		running = append(running, p)
	}
	l.mu.Unlock()
	for _, p := range running {
		p.kill()
	}
	for _, p := range running {
		<-p.done
	}
	close(l.spawn)
	return errors.Join(endMarked(l.marker), l.registry.Close(), l.unlock())
}

// own takes possession of dir: alone, and with nobody left running there.
func (l *Runner) own(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if l.dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	lock := flock.New(l.path("lock"))
	switch ok, err := lock.TryLock(); {
	case err != nil:
		return err
	case !ok:
		return errors.New("another process does already: end it, or use another folder")
	}
	l.lock = lock
	l.marker = "FLYSIM_RUNNER=" + l.dir
	for _, d := range []string{"images", "logs", "processes", "scratch"} {
		if err := os.MkdirAll(l.path(d), 0o700); err != nil {
			return err
		}
	}
	if err := endStrays(l.path("processes"), l.marker); err != nil {
		return err
	}
	return removeLeftovers(l.path("scratch", "*"), l.path("images", ".tmp-*"), l.path(".tmp-*"), l.path("processes", ".tmp-*"))
}

func (l *Runner) unlock() error {
	if l.lock == nil {
		return nil
	}
	return l.lock.Unlock()
}

func (l *Runner) path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}

func (l *Runner) serveRegistry(addr string) error {
	store, err := openRegistry(l.path("registry"))
	if err != nil {
		return fmt.Errorf("open the registry: %w", err)
	}
	listener, err := l.listenRegistry(addr)
	if err != nil {
		return fmt.Errorf("listen for the registry: %w", err)
	}
	l.registry = &http.Server{Handler: store, ReadHeaderTimeout: 30 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = l.registry.Serve(listener) }() // ends with Close, and says only that
	l.images = &images{dir: l.path("images"), registry: listener.Addr().String(), transport: directTransport()}
	return nil
}

func (l *Runner) listenRegistry(addr string) (net.Listener, error) {
	if addr == "" {
		return l.ports.listen(registryName)
	}
	if !loopbackHost(addr) {
		return nil, fmt.Errorf("%s is no loopback address: anybody could push images; use 127.0.0.1", addr)
	}
	return net.Listen("tcp", addr)
}

// edge is the app's, opened when it is first asked for.
func (l *Runner) edge(app string) (*edge, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.edges[app]; ok {
		return e, nil
	}
	if l.closed {
		return nil, errClosed
	}
	listener, err := l.ports.listen(app)
	if err != nil {
		return nil, err
	}
	e := newEdge(app, listener)
	l.edges[app] = e
	return e, nil
}

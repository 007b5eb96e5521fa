package localrunner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
)

// Ports are below the usual range of outgoing connections, so that a free port
// is not taken by one a moment later.
const (
	firstPort = 20000
	lastPort  = 29999
)

// A portBook assigns loopback ports, and stores those of apps and of the
// registry.
type portBook struct {
	path string // the file with the stored ports

	mu    sync.Mutex
	named map[string]int
	taken map[int]bool // all assigned or stored ports
}

func openPorts(path string) (*portBook, error) {
	p := &portBook{path: path, named: map[string]int{}, taken: map[int]bool{}}
	doc, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(doc, &p.named); err != nil {
		return nil, fmt.Errorf("read remembered ports %s: %w; remove the file to get new ones", path, err)
	}
	for _, port := range p.named {
		p.taken[port] = true
	}
	return p, nil
}

// names returns the names whose ports are stored.
func (p *portBook) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.named))
}

// listen listens on the stored port of name or, if that is in use, on a new
// one, which is stored.
func (p *portBook) listen(name string) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port, ok := p.named[name]; ok {
		if l, err := net.Listen("tcp4", loopbackAddr(port)); err == nil {
			return l, nil
		}
		delete(p.taken, port)
	}
	l, port, err := p.listenFree()
	if err != nil {
		return nil, err
	}
	p.named[name], p.taken[port] = port, true
	doc, err := json.Marshal(p.named)
	if err == nil {
		err = writeFileAtomic(p.path, doc)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("remember port %d of %s: %w", port, name, err), l.Close())
	}
	return l, nil
}

// reserve returns a port for a process to listen on. It is not assigned again
// until release.
func (p *portBook) reserve() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, port, err := p.listenFree()
	if err != nil {
		return 0, err
	}
	p.taken[port] = true
	return port, l.Close()
}

func (p *portBook) release(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, port)
}

// listenFree listens on a free port. It starts at a random one, because other
// programs may search at the same time.
func (p *portBook) listenFree() (net.Listener, int, error) {
	const n = lastPort - firstPort + 1
	start := rand.IntN(n)
	var last error
	for i := range n {
		port := firstPort + (start+i)%n
		if p.taken[port] {
			continue
		}
		l, err := net.Listen("tcp4", loopbackAddr(port))
		if err == nil {
			return l, port, nil
		}
		last = err
	}
	return nil, 0, fmt.Errorf("no port between %d and %d is free: %w", firstPort, lastPort, last)
}

func loopbackAddr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

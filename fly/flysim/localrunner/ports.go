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

// Ports are taken from below those that systems give to outgoing connections,
// so that one which is free now is not taken by chance a moment later.
const (
	firstPort = 20000
	lastPort  = 29999
)

// ports hands out loopback ports, and remembers those of what has a URL.
type portBook struct {
	path string // of the file in which they are remembered

	mu    sync.Mutex
	named map[string]int
	taken map[int]bool // all that are handed out or remembered
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

// names are those whose ports are remembered.
func (p *portBook) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.named))
}

// listen opens the port that name had before or, if somebody else has that one
// now, another, which is remembered from now on.
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

// lease is a port for a process to listen on. It is nobody else's until it is
// given back.
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

// open listens on a free port, beginning anywhere, as other programs may look
// for theirs at this moment.
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

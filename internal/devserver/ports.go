package devserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A PortTakenError says that somebody else listens on a port that was asked
// for.
type PortTakenError struct {
	Port   int
	For    string // Temporal, the Temporal Web UI
	Holder string // process 4711 (name), or "" where that can't be seen
}

func (e *PortTakenError) Error() string {
	by := ""
	if e.Holder != "" {
		by = " by " + e.Holder
	}
	return fmt.Sprintf("port %d for %s is taken%s: stop what listens there, or choose another port", e.Port, e.For, by)
}

// ports are listeners. They are held from the first look until the moment
// Temporal opens its own: it dereferences nil when a port of it is taken.
type ports struct {
	frontend net.Listener
	internal []net.Listener // history, matching, worker
	ui       net.Listener   // nil if there is none
}

// portNumbers are what Temporal's configuration wants to know.
type portNumbers struct {
	frontend, history, matching, worker int
}

func holdPorts(o Options) (*ports, error) {
	p := new(ports)
	var err error
	if p.frontend, err = listen(o.Port, "Temporal"); err != nil {
		return nil, err
	}
	if !o.UIOff {
		if p.ui, err = listen(o.UIPort, "the Temporal Web UI"); err != nil {
			p.free()
			return nil, err
		}
	}
	for range 3 {
		l, err := listen(0, "Temporal")
		if err != nil {
			p.free()
			return nil, err
		}
		p.internal = append(p.internal, l)
	}
	return p, nil
}

func (p *ports) numbers() portNumbers {
	return portNumbers{
		frontend: portOf(p.frontend),
		history:  portOf(p.internal[0]),
		matching: portOf(p.internal[1]),
		worker:   portOf(p.internal[2]),
	}
}

func (p *ports) uiURL() string {
	if p.ui == nil {
		return ""
	}
	return "http://" + p.ui.Addr().String()
}

// takeUI hands the UI's listener over; free no longer closes it.
func (p *ports) takeUI() net.Listener {
	l := p.ui
	p.ui = nil
	return l
}

func (p *ports) freeForTemporal() {
	p.frontend.Close()
	for _, l := range p.internal {
		l.Close()
	}
}

func (p *ports) free() {
	p.freeForTemporal()
	if p.ui != nil {
		p.ui.Close()
	}
}

// Listen opens a port on loopback, or any free one for 0. It fails with a
// *PortTakenError that says purpose and by whom.
func Listen(port int, purpose string) (net.Listener, error) { return listen(port, purpose) }

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

func listen(port int, purpose string) (net.Listener, error) {
	if port == 0 {
		return listenAnywhere()
	}
	l, err := net.Listen("tcp4", hostPort(port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &PortTakenError{Port: port, For: purpose, Holder: holder(port)}
	}
	if err != nil {
		return nil, fmt.Errorf("listening on port %d for %s: %w", port, purpose, err)
	}
	return l, nil
}

// listenAnywhere stays below the ports from which systems serve outgoing
// connections, so that none of those gets a port in the moment between our
// closing it and Temporal's opening it.
func listenAnywhere() (net.Listener, error) {
	for range 100 {
		if l, err := net.Listen("tcp4", hostPort(20000+rand.IntN(10000))); err == nil {
			return l, nil
		}
	}
	l, err := net.Listen("tcp4", hostPort(0))
	if err != nil {
		return nil, fmt.Errorf("looking for a free port on %s: %w", loopback, err)
	}
	return l, nil
}

// holder names the process that listens on port, where /proc tells.
func holder(port int) string {
	for inode := range listening("/proc/net", port) {
		fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == "socket:["+inode+"]" {
				pid := strings.Split(fd, "/")[2]
				name, _ := os.ReadFile("/proc/" + pid + "/comm")
				return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name)))
			}
		}
	}
	return ""
}

// listening returns the socket inodes in net's tables that listen on port, or
// on any port if that is 0, each with its address in the table's hex.
func listening(net string, port int) map[string]string {
	found := make(map[string]string)
	for _, table := range []string{"tcp", "tcp6"} {
		content, _ := os.ReadFile(filepath.Join(net, table))
		for line := range strings.Lines(string(content)) {
			const local, state, inode = 1, 3, 9
			f := strings.Fields(line)
			if len(f) <= inode || f[state] != "0A" {
				continue
			}
			address, hex, _ := strings.Cut(f[local], ":")
			n, err := strconv.ParseUint(hex, 16, 16)
			if err == nil && (port == 0 || int(n) == port) {
				found[f[inode]] = address
			}
		}
	}
	return found
}

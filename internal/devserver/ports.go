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

// A PortTakenError says that another process listens on a requested port.
type PortTakenError struct {
	Port   int
	For    string // Temporal, the Temporal Web UI
	Holder string // process 4711 (name), or "" if unknown
}

func (e *PortTakenError) Error() string {
	by := ""
	if e.Holder != "" {
		by = " by " + e.Holder
	}
	return fmt.Sprintf("port %d for %s is in use%s: stop the process that listens there, or choose another port", e.Port, e.For, by)
}

// ports are listeners that reserve ports until Temporal opens them: Temporal
// dereferences nil if one of its ports is in use.
type ports struct {
	frontend net.Listener
	internal []net.Listener // history, matching, worker
	ui       net.Listener   // nil if the Web UI is off
}

// portNumbers are the ports for Temporal's configuration.
type portNumbers struct {
	frontend, history, matching, worker int
}

func holdPorts(o Options) (*ports, error) {
	p := new(ports)
	var err error
	if p.frontend, err = listenOn(o.Port, "Temporal"); err != nil {
		return nil, err
	}
	if !o.UIOff {
		if p.ui, err = listenOn(o.UIPort, "the Temporal Web UI"); err != nil {
			p.close()
			return nil, err
		}
	}
	for range 3 {
		l, err := listenOn(0, "Temporal")
		if err != nil {
			p.close()
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

// takeUI returns the UI's listener, which close no longer closes.
func (p *ports) takeUI() net.Listener {
	l := p.ui
	p.ui = nil
	return l
}

func (p *ports) closeForTemporal() {
	p.frontend.Close()
	for _, l := range p.internal {
		l.Close()
	}
}

func (p *ports) close() {
	p.closeForTemporal()
	if p.ui != nil {
		p.ui.Close()
	}
}

// Listen opens a port on loopback, or any free port if port is 0. If the port is in use
// it fails with a *PortTakenError with the purpose and the other process.
func Listen(port int, purpose string) (net.Listener, error) { return listenOn(port, purpose) }

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

func listenOn(port int, purpose string) (net.Listener, error) {
	if port == 0 {
		return listenFree()
	}
	l, err := net.Listen("tcp4", hostPort(port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &PortTakenError{Port: port, For: purpose, Holder: portHolder(port)}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on port %d for %s: %w", port, purpose, err)
	}
	return l, nil
}

// listenFree opens a free port below the range of outgoing connections, so that no
// connection takes the port between closing it here and opening it in Temporal.
func listenFree() (net.Listener, error) {
	for range 100 {
		if l, err := net.Listen("tcp4", hostPort(20000+rand.IntN(10000))); err == nil {
			return l, nil
		}
	}
	l, err := net.Listen("tcp4", hostPort(0))
	if err != nil {
		return nil, fmt.Errorf("find a free port on %s: %w", loopback, err)
	}
	return l, nil
}

// portHolder returns the process that listens on port, or "" if /proc does not show it.
func portHolder(port int) string {
	for inode := range listeningSockets("/proc/net", port) {
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

// listeningSockets returns the sockets that listen on port, or on any port if it is 0,
// from the tables in a folder like /proc/net: their addresses in hex, by inode.
func listeningSockets(net string, port int) map[string]string {
	addresses := make(map[string]string)
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
				addresses[f[inode]] = address
			}
		}
	}
	return addresses
}

package fly

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Process is a process in a machine.
type Process struct {
	PID           int      `json:"pid"`
	Command       string   `json:"command"`
	ListenSockets []Socket `json:"listen_sockets"`
}

// A Socket is a listening socket of a process.
type Socket struct {
	Proto   string `json:"proto"`   // tcp, tcp6, udp, …
	Address string `json:"address"` // 0.0.0.0:8080, [::]:8080
}

// Processes lists the processes of a started machine.
func (c *Client) Processes(ctx context.Context, app, id string) (out []Process, err error) {
	err = c.do(ctx, call{op: "list the processes of machine " + id, action: "ps", app: app, machine: id, method: http.MethodGet, path: []string{"apps", app, "machines", id, "ps"}}, &out)
	return out, err
}

// Listens reports whether Fly's proxy can reach the TCP port: whether a process
// listens on it, and not on loopback only.
func Listens(processes []Process, port int) bool {
	return slices.ContainsFunc(processes, func(p Process) bool {
		return slices.ContainsFunc(p.ListenSockets, func(s Socket) bool {
			host, at, err := net.SplitHostPort(s.Address)
			if err != nil || at != strconv.Itoa(port) || !strings.HasPrefix(s.Proto, "tcp") {
				return false
			}
			ip, err := netip.ParseAddr(host)
			return err != nil || !ip.IsLoopback()
		})
	})
}

// TCPPorts returns the TCP ports that processes listen on, sorted.
func TCPPorts(processes []Process) (ports []int) {
	for _, p := range processes {
		for _, s := range p.ListenSockets {
			_, at, err := net.SplitHostPort(s.Address)
			port, bad := strconv.Atoi(at)
			if err == nil && bad == nil && strings.HasPrefix(s.Proto, "tcp") && !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	return ports
}

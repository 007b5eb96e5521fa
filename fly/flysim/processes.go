package flysim

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"

	"github.com/microbima/release/fly"
)

// psMachine lists the processes of a machine and the ports that they listen on.
// A machine without a process listens on its services' ports unless it has
// NoListener.
func (s *Sim) psMachine(c *call) (any, error) {
	var m *machine
	var proc Process
	var ports []int
	var err error
	s.withLock(func() {
		if _, err = s.admitCall(c); err != nil {
			return
		}
		m = c.machine
		if m.View.State != "started" {
			err = newAPIError(http.StatusPreconditionFailed, "machine is not started")
			return
		}
		proc = m.proc
		for _, v := range m.config().Services {
			tcp := cmp.Or(v.Protocol, "tcp") == "tcp"
			if tcp && !slices.Contains(ports, v.InternalPort) && (proc != nil || !m.Behaviour.NoListener) {
				ports = append(ports, v.InternalPort)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if proc != nil {
		ports = proc.ListeningPorts(ports)
	}
	sockets := []fly.Socket{}
	for _, port := range ports {
		sockets = append(sockets, fly.Socket{Proto: "tcp6", Address: "[::]:" + strconv.Itoa(port)})
	}
	return []fly.Process{{PID: 300, Command: "app", ListenSockets: sockets}}, nil
}

package flysim

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/microbima/release/fly"
)

// psMachine lists what runs in a machine, and where it listens. A make-believe
// machine listens where its services are, unless it is Deaf; of a process, it is
// tried out.
func (s *Sim) psMachine(c *call) (any, error) {
	var m *machine
	var proc Process
	var ports []int
	var err error
	s.locked(func() {
		if _, err = s.admit(c); err != nil {
			return
		}
		m = c.machine
		if m.View.State != "started" {
			err = refuse(http.StatusPreconditionFailed, "machine is not started")
			return
		}
		proc = m.proc
		for _, v := range m.config().Services {
			tcp := cmp.Or(v.Protocol, "tcp") == "tcp"
			if tcp && !slices.Contains(ports, v.InternalPort) && (proc != nil || !m.Behaves.Deaf) {
				ports = append(ports, v.InternalPort)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	sockets := []fly.Socket{}
	for _, port := range ports {
		if proc == nil || listens(proc.Addr(port)) {
			sockets = append(sockets, fly.Socket{Proto: "tcp6", Address: "[::]:" + strconv.Itoa(port)})
		}
	}
	return []fly.Process{{PID: 300, Command: "app", ListenSockets: sockets}}, nil
}

// listens reports whether a process listens at addr.
func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close() // it was only to see that there is one
	return true
}

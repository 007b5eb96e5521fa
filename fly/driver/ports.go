package driver

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A processReader reads the processes of a machine.
type processReader interface {
	Processes(ctx context.Context, app, id string) ([]fly.Process, error)
}

// A portCheck checks whether processes listen on the ports to which Fly's proxy sends
// traffic.
type portCheck struct {
	confirmed map[release.UncheckedPort]bool // a process listens there, or Fly cannot answer
	patience  time.Duration                  // how long a process may take to listen
	notes     []string                       // ports at which no process listens
	unread    []string                       // ports that could not be read
	isOver    bool                           // patience has passed: no more reads
}

func newPortCheck(t *verdictTracker) *portCheck {
	return &portCheck{confirmed: map[release.UncheckedPort]bool{}, patience: min(max(t.during, t.within), 30*time.Second)}
}

// checkPorts reads the ports on which the machines of a healthy or unchecked target
// listen, until a process listens on each port of a TCP service without health check.
// It reports whether another observation may change the result. A port without a
// listener makes v unchecked, because Fly's proxy cannot send traffic there. A failed
// read becomes a note of v, and a permanent failure is not repeated.
func (c *portCheck) checkPorts(ctx context.Context, f processReader, e Expectation, now release.State, v *release.Verdict, elapsed time.Duration) (again bool) {
	if e.Back || len(e.Changed) == 0 || v.Health != release.Healthy && v.Health != release.Unchecked {
		return false
	}
	if !c.isOver {
		c.notes = nil
		c.unread = nil
		for _, l := range e.Goal.UncheckedPorts(now) {
			if !c.confirmed[l] {
				c.checkPort(ctx, f, e.Goal.FlyApp, l)
			}
		}
		c.isOver = elapsed >= c.patience
	}
	if len(c.notes) > 0 {
		v.Health = release.Unchecked
	}
	v.Notes = append(append(v.Notes, c.notes...), c.unread...)
	return len(c.notes)+len(c.unread) > 0 && !c.isOver
}

// checkPort reads whether a process listens on one port.
func (c *portCheck) checkPort(ctx context.Context, f processReader, app string, l release.UncheckedPort) {
	processes, err := RetryRead(ctx, func() ([]fly.Process, error) { return f.Processes(ctx, app, l.Machine) })
	switch {
	case err != nil && IsPermanent(err), err == nil && fly.Listens(processes, l.Port):
		c.confirmed[l] = true
	case err != nil:
		c.unread = append(c.unread, fmt.Sprintf("group %s: whether machine %s listens on internal_port %d could not be read: %s", l.Group, l.Machine, l.Port, err))
	default:
		c.notes = append(c.notes, notListening(l, processes))
	}
}

// notListening returns the note of a port without a listener. It names the ports that
// have one.
func notListening(l release.UncheckedPort, processes []fly.Process) string {
	listens := "listens on no TCP port"
	if ports := fly.TCPPorts(processes); len(ports) > 0 {
		listens = "listens on TCP ports " + strings.Trim(fmt.Sprint(ports), "[]")
	}
	return fmt.Sprintf("group %s: machine %s is not listening on internal_port %d, so that nothing reaches it (it %s)", l.Group, l.Machine, l.Port, listens)
}

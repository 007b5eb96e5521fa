package activities

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// portWatch remembers at which ports of a target a process listens.
type portWatch struct {
	settled  map[release.Listener]bool // ports with a listener, or that Fly refuses to report
	patience time.Duration             // how long a process may take to listen
	notes    []string                  // one for each port without a listener
	unread   []string                  // one for each port whose state could not be read
	over     bool                      // patience has run out: no further reads
}

// listen reads on which ports the machines of a healthy target listen, and reports
// whether to read again: a port of a TCP service without a check has no listener yet, or
// could not be read. A port without a listener makes v unchecked, because Fly's proxy
// cannot send traffic there. A port that could not be read is a note of v. If Fly refuses
// the request for good, the port is not read again.
func (a *Activities) listen(ctx context.Context, aim Aim, now release.State, v *release.Verdict, w *portWatch, past time.Duration) (wait bool) {
	if aim.Back || len(aim.Changed) == 0 || v.Health != release.Healthy && v.Health != release.Unchecked {
		return false
	}
	if !w.over {
		w.notes, w.unread = nil, nil
		for _, l := range aim.Goal.Listeners(now) {
			if w.settled[l] {
				continue
			}
			processes, err := retryRead(ctx, func() ([]fly.Process, error) { return a.Fly.Processes(ctx, aim.Goal.FlyApp, l.Machine) })
			switch {
			case err != nil && isFinal(classify(ctx, err)), err == nil && fly.Listens(processes, l.Port):
				w.settled[l] = true
			case err != nil:
				w.unread = append(w.unread, fmt.Sprintf("group %s: whether machine %s listens on internal_port %d could not be read: %s", l.Group, l.Machine, l.Port, err))
			default:
				w.notes = append(w.notes, notListening(l, processes))
			}
		}
		w.over = past >= w.patience
	}
	if len(w.notes) > 0 {
		v.Health = release.Unchecked
	}
	v.Notes = append(append(v.Notes, w.notes...), w.unread...)
	return len(w.notes)+len(w.unread) > 0 && !w.over
}

// notListening returns the note of a port without a listener, with the ports that have
// one.
func notListening(l release.Listener, processes []fly.Process) string {
	listens := "listens on no TCP port"
	if ports := fly.TCPPorts(processes); len(ports) > 0 {
		listens = "listens on TCP ports " + strings.Trim(fmt.Sprint(ports), "[]")
	}
	return fmt.Sprintf("group %s: machine %s is not listening on internal_port %d, so that nothing reaches it (it %s)", l.Group, l.Machine, l.Port, listens)
}

package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// portWatch remembers at which ports of a target a process listens.
type portWatch struct {
	settled  map[release.Listener]bool // a process listens there, or Fly does not say
	patience time.Duration             // how long a process may take to listen
	notes    []string                  // of the ports where none listens
	unread   []string                  // of the ports of which Fly could not be asked
	over     bool                      // patience has run out: Fly is not asked again
}

// listen asks Fly where the machines of a good target listen, until a process
// listens at each port of a TCP service that has no check. It returns true while that is worth
// another look. Afterwards v is unchecked: Fly's proxy can send no traffic there.
// Where Fly does not say, it is not asked again; where it can't be read, v says so.
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

// notListening says that nothing listens where Fly's proxy sends traffic to.
func notListening(l release.Listener, processes []fly.Process) string {
	where := "nowhere"
	if ports := fly.TCPPorts(processes); len(ports) > 0 {
		where = fmt.Sprint(ports)
	}
	return fmt.Sprintf("group %s: machine %s is not listening on internal_port %d, so that nothing reaches it (it listens on TCP ports: %s)", l.Group, l.Machine, l.Port, where)
}

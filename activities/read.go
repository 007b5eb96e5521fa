package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

const (
	// readFor is how long one failed read is tried again before the attempt of its
	// activity fails with it: then Temporal tries again, and shows why.
	readFor = 20 * time.Second
	// staleFor is how long a reading that is older than what was written is not
	// believed.
	staleFor = 15 * time.Second
)

// retryRead returns what read does, and tries again with backoff while Fly limits,
// is unavailable or answers nothing that can be understood. The other reads of
// a look need not be repeated because of one.
func retryRead[T any](ctx context.Context, read func() (T, error)) (T, error) {
	begun := time.Now()
	defer reportWaiting(ctx, "read", "")
	for backoff := 100 * time.Millisecond; ; backoff = min(2*backoff, 2*time.Second) {
		got, err := read()
		wait := max(backoff, retryAfter(err))
		if err == nil || !isPassing(err) || ctx.Err() != nil || time.Since(begun)+wait > readFor || isAway(ctx, err) {
			return got, err
		}
		reportWaiting(ctx, "read", "read from Fly again: "+err.Error())
		if pause(ctx, wait) != nil {
			return got, err
		}
	}
}

// isAway reports whether Fly was away for a whole attempt of this activity and still
// is: then it is asked as rarely as Temporal tries again.
func isAway(ctx context.Context, err error) bool {
	return activity.IsActivity(ctx) && activity.GetInfo(ctx).Attempt > 1 && !errors.Is(err, fly.ErrRateLimited)
}

// pacedFor is how long one change is sent again while Fly limits it.
const pacedFor = time.Minute

// paced sends a change, and sends it again while Fly refuses it with 429: nothing
// was changed then, and the client keeps Fly's limits from now on.
func paced[T any](ctx context.Context, send func() (T, error)) (T, error) {
	begun := time.Now()
	for backoff := 250 * time.Millisecond; ; backoff = min(2*backoff, 2*time.Second) {
		got, err := send()
		wait := max(backoff, retryAfter(err))
		if !errors.Is(err, fly.ErrRateLimited) || ctx.Err() != nil || time.Since(begun)+wait > pacedFor {
			return got, err
		}
		if pause(ctx, wait) != nil {
			return got, err
		}
	}
}

// isPassing reports whether a read that failed may succeed a moment later.
func isPassing(err error) bool {
	return errors.Is(err, fly.ErrUnavailable) || errors.Is(err, fly.ErrTimeout) || errors.Is(err, fly.ErrRateLimited) || errors.Is(err, fly.ErrMalformed)
}

// retryAfter returns how long Fly asked to wait, or 0.
func retryAfter(err error) time.Duration {
	var answer *fly.Error
	if errors.As(err, &answer) {
		return answer.RetryAfter
	}
	return 0
}

// A machineReader reads one machine. *fly.Client is one.
type machineReader interface {
	Machine(ctx context.Context, app, id string) (fly.Machine, error)
}

// readMachine reads one machine. A reading older than version, which it was given,
// is stale: it is read again, and believed after staleFor.
func readMachine(ctx context.Context, f machineReader, app, id, version string) (fly.Machine, error) {
	begun := time.Now()
	for backoff := 100 * time.Millisecond; ; backoff = min(2*backoff, 2*time.Second) {
		m, err := retryRead(ctx, func() (fly.Machine, error) { return f.Machine(ctx, app, id) })
		if err != nil || !m.IsOlder(version) || time.Since(begun) > staleFor {
			return m, err
		}
		if err := pause(ctx, backoff); err != nil {
			return m, err
		}
	}
}

// Written are the versions that machines were given, by Fly app and machine ID; "" of
// a machine that may have been changed, to a version that is not known.
type Written map[string]map[string]string

// freshen reads the machines again that are or may be stale in s: those that the list
// does not have, or has at an older version than they were given, or whose
// version is not known. It fails where Fly tells nothing newer.
func freshen(ctx context.Context, f machineReader, s *release.State, written map[string]string) error {
	for _, id := range slices.Sorted(maps.Keys(written)) {
		have, isListed := s.Machine(id)
		isUnread := slices.ContainsFunc(s.Unread, func(m release.Machine) bool { return m.ID == id })
		if isUnread || isListed && written[id] != "" && !fly.OlderVersion(have.Version, written[id]) {
			continue
		}
		m, err := readMachine(ctx, f, s.FlyApp, id, cmp.Or(written[id], have.Version))
		switch {
		case errors.Is(err, fly.ErrNotFound):
			m.State = "destroyed"
		case err != nil:
			return err
		case m.IsOlder(cmp.Or(written[id], have.Version)):
			return fmt.Errorf("read machine %s of %s: it is told to be at version %s, and was at %s later", id, s.Target, m.InstanceID, cmp.Or(written[id], have.Version))
		}
		s.Machines = slices.DeleteFunc(s.Machines, func(m release.Machine) bool { return m.ID == id })
		if m.State != "destroyed" {
			addMachine(s, m)
		}
	}
	slices.SortFunc(s.Machines, func(a, b release.Machine) int { return cmp.Compare(a.ID, b.ID) })
	return nil
}

// lookAgain fills in the machines of now, of which goal is known: what is older than
// the versions in goal is stale, and of machines whose host can't be reached goal
// has the rest.
func lookAgain(ctx context.Context, f Reader, goal release.State, now *release.State) error {
	if err := lookAtMachines(ctx, f, now); err != nil {
		return err
	}
	written := map[string]string{}
	for _, m := range goal.Machines {
		if m.ID != "" && m.Version != "" {
			written[m.ID] = m.Version
		}
	}
	err := freshen(ctx, f, now, written)
	*now = now.Recalled(goal.Machines)
	return err
}

// unseen returns what of now can't be judged because of its host.
func (aim Aim) unseen(now release.State) []release.Failure {
	return slices.DeleteFunc(aim.Goal.Unseen(now), func(f release.Failure) bool {
		have, _ := now.Machine(f.Machine)
		was, ok := aim.Goal.Machine(f.Machine)
		return aim.Before && ok && have.IsAsBefore(was)
	})
}

// Unread returns an error that names the machines of which nothing is known.
func Unread(states []release.State) error {
	var all []string
	for _, s := range states {
		for _, m := range s.Unread {
			all = append(all, fmt.Sprintf("machine %s (%s) of %s: its host is %s and Fly tells neither its config nor its group, so that nobody can say what becomes of it: wait until the host is back, or destroy the machine (fly machine destroy --force %s)", m.ID, m.Name, s.Target, m.Host, m.ID))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}

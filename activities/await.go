package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// waiting is a machine that was changed, and what it should become.
type waiting struct {
	in      StepInput
	want    json.RawMessage
	id      string
	version string // instance_id that the change gave it
	runs    bool   // it should be started and healthy; else only on its config
}

// await polls a machine until it has the wanted config and, where it should run, is
// started and healthy. One good read is enough: Verify reads every machine again before
// the rollout is promoted. await returns a KindFailure with the evidence when the
// machine crashes, has another version, or is not ready within the step's timeout.
func (a *Activities) await(ctx context.Context, w waiting) (release.Machine, error) {
	// An attempt that goes on after a crash counts anew: waiting twice as long
	// is better than calling a machine bad that was never looked at.
	begun := time.Now()
	limit := time.Duration(w.in.Step.Wait)
	if limit <= 0 {
		limit = 5 * time.Minute
	}
	if err := a.reach(ctx, w, limit); err != nil {
		return release.Machine{}, err
	}
	reached := time.Now()
	for {
		m, err := a.Fly.Machine(ctx, w.in.Step.FlyApp, w.id)
		switch isStale := err == nil && m.IsOlder(w.version) && time.Since(begun) < staleFor; {
		case isStale: // it was read before it was changed
		case err == nil:
			if fail := w.failed(m); fail != nil {
				return release.Machine{}, a.evidence(ctx, w, m, *fail)
			}
			if w.good(m) {
				a.pace.learn(w, m)
				return Seen(m), nil
			}
			if w.fellAsleep(m) {
				if err := a.wake(ctx, w.in, m); err != nil {
					return release.Machine{}, err
				}
			}
			if time.Since(begun) > limit {
				return release.Machine{}, a.evidence(ctx, w, m, w.late(m, limit))
			}
			reportWaiting(ctx, w.id, w.waitText(m))
		case ctx.Err() == nil && !transient(err):
			return release.Machine{}, err
		case ctx.Err() == nil:
			reportWaiting(ctx, w.id, fmt.Sprintf("read machine %s of %s: %v", w.id, w.in.Step.Target, err))
		}
		if err := pause(ctx, a.pollInterval(time.Since(reached))); err != nil {
			return release.Machine{}, err
		}
	}
}

// startsWithin is how long Fly is asked to say when a machine is started, before it
// is looked at: Fly does not tell there that it failed.
const startsWithin = 5 * time.Second

// reach lets Fly say when the machine is started, instead of asking again and
// again, and then waits for as long as the checks of its like took to pass. It
// judges nothing: whatever happened is seen by looking.
func (a *Activities) reach(ctx context.Context, w waiting, limit time.Duration) error {
	if !w.runs || w.in.Step.Unchecked || release.NeverRestarts(w.want) {
		return nil // one that ends may have ended before anybody asks
	}
	err := a.Fly.Wait(ctx, w.in.Step.FlyApp, w.id, fly.Wait{State: "started", Version: w.version, Timeout: min(limit, startsWithin)})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return nil
	}
	return pause(ctx, a.pace.checks(w))
}

// pollInterval returns the delay before the next read of a machine: a sixteenth of
// the time waited, at least a sixteenth of Poll and at most Poll. With a Poll of 1 s
// this stays within Fly's limit for each machine: 5 reads a second after a burst of 10.
func (a *Activities) pollInterval(waited time.Duration) time.Duration {
	return min(max(a.poll()/16, waited/16), a.poll())
}

// transient says whether a read that failed is worth another look right away:
// just after a create Fly may not know the machine yet.
func transient(err error) bool {
	return errors.Is(err, fly.ErrNotFound) || isPassing(err)
}

// good says whether m is, at this look, what it should be.
func (w waiting) good(m fly.Machine) bool {
	if m.InstanceID != w.version || Seen(m).Host != "" {
		return false // another version, or one that Fly itself can't see
	}
	if !w.runs {
		return !transitional(m.State)
	}
	if w.in.Step.Unchecked {
		return !transitional(m.State)
	}
	if seen := Seen(m); seen.Ended() && !release.Serves(w.want) && release.ChecksIn(w.want) == 0 {
		return true // its work is done
	}
	return m.State == "started" && len(m.Checks) >= release.ChecksIn(w.want) && Seen(m).Healthy()
}

// fellAsleep says whether Fly's proxy has stopped m before it was found good:
// nobody has asked for it yet.
func (w waiting) fellAsleep(m fly.Machine) bool {
	seen := Seen(m)
	return w.runs && !w.in.Step.Unchecked && m.InstanceID == w.version && seen.Host == "" && seen.Exit == nil && !transitional(m.State) && seen.Rests()
}

// failed says what is wrong with m that time will not cure, or nil.
func (w waiting) failed(m fly.Machine) *release.Failure {
	f := release.Failure{Target: w.in.Step.Target, Machine: m.ID, Name: m.Name, Group: w.in.Step.Group}
	exit := Seen(m).Exit
	switch {
	case m.State == "destroyed":
		f.Reason = "was destroyed by somebody else"
	case Seen(m).Host != "":
		return nil // what Fly tells of it is old
	case m.InstanceID != w.version && !isOn(m, w.in.Step, w.want):
		f.Reason = fmt.Sprintf("is at version %s, not at %s, which it was given: Fly put another version in its place, or somebody else did", m.InstanceID, w.version)
	case !w.runs || w.in.Step.Unchecked:
		return nil
	case exit != nil && w.ended(m, *exit):
		f.Reason, f.ExitCode = exit.String(), &exit.Code
	case m.State == "failed", m.State == "launch_failed":
		f.Reason = "could not be started"
	default:
		return nil
	}
	return &f
}

// ended reports whether an exit of m that nobody asked for is a failure. What a
// restore brings back may end once while it starts, as it may have before.
func (w waiting) ended(m fly.Machine, exit release.Exit) bool {
	if Seen(m).Ended() {
		return false // its work is done, or it is late
	}
	again := exit.Restarts > 1 && exit.IsRecent(time.Now())
	return !w.in.Step.Exact || again || m.State == "stopped" || m.State == "failed"
}

// waitSetting names what has to be changed for a machine to be given more time.
const waitSetting = "wait_timeout of [deploy] in its fly.toml"

// late is what is wrong with m when its time is over.
func (w waiting) late(m fly.Machine, limit time.Duration) release.Failure {
	f := release.Failure{Target: w.in.Step.Target, Machine: m.ID, Name: m.Name, Group: w.in.Step.Group}
	if host := Seen(m).Host; host != "" {
		f.Reason = fmt.Sprintf("could not be seen within %s: its host is %s", limit, host)
		return f
	}
	f.Reason = fmt.Sprintf("is %s after %s (%s), not started", m.State, limit, waitSetting)
	if exit := Seen(m).Exit; exit != nil {
		f.ExitCode = &exit.Code
	}
	if m.State != "started" {
		return f
	}
	f.Reason = fmt.Sprintf("reports %d of its %d checks after %s (%s)", len(m.Checks), release.ChecksIn(w.want), limit, waitSetting)
	if i := slices.IndexFunc(m.Checks, func(c fly.Check) bool { return c.Status != "passing" }); i >= 0 {
		c := m.Checks[i]
		f.Reason = fmt.Sprintf("check %s did not pass within %s (%s)", c.Name, limit, waitSetting)
		f.Check, f.Output = c.Name, excerpt(c.Output, 400)
	}
	return f
}

// waitText returns in a sentence what m lacks.
func (w waiting) waitText(m fly.Machine) string {
	text := fmt.Sprintf("machine %s of %s is %s", m.ID, w.in.Step.Target, m.State)
	if i := slices.IndexFunc(m.Checks, func(c fly.Check) bool { return c.Status != "passing" }); i >= 0 {
		text += fmt.Sprintf(", check %s is %s: %s", m.Checks[i].Name, m.Checks[i].Status, strings.TrimSpace(m.Checks[i].Output))
	}
	return strings.TrimSuffix(text, ": ")
}

// evidence is f with the last lines of the machine's log, as an error that
// keeps them.
func (a *Activities) evidence(ctx context.Context, w waiting, m fly.Machine, f release.Failure) error {
	f.Log, f.Version = a.lastLines(ctx, w.in.Step.FlyApp, m.ID), w.version
	return refused(release.KindFailure, f, f)
}

// lastLines is the end of a machine's log, or a line that says why it is not.
func (a *Activities) lastLines(ctx context.Context, app, machine string) (last []string) {
	lines, err := a.Fly.Logs(ctx, app, machine)
	if err != nil {
		return []string{"(its log could not be read: " + err.Error() + ")"}
	}
	for _, l := range lines[max(0, len(lines)-12):] {
		last = append(last, excerpt(strings.TrimSpace(l.Message), 300))
	}
	return last
}

// settles is how long a machine is given to leave a passing state. One that
// does not is stuck, and a change may be just what it needs.
const settles = 90 * time.Second

// settled waits until m is in no state that passes by itself. Deciding from a
// passing state is how machines are left stopped. One that restarts is meant to
// run, whatever comes of it: the way back must not wait for a crash loop to end.
// Nor does a restore wait for one that is on its way to run, as a rollout leaves
// it that is cut in the middle: whether it is to run is in the baseline.
func (a *Activities) settled(ctx context.Context, s release.Step, m fly.Machine) (fly.Machine, error) {
	for begun := time.Now(); isUnsettled(s, m.State) && time.Since(begun) < settles; {
		if err := pause(ctx, a.poll()); err != nil {
			return m, err
		}
		reportWaiting(ctx, m.ID, fmt.Sprintf("machine %s of %s is %s", m.ID, s.Target, m.State))
		next, err := a.Fly.Machine(ctx, s.FlyApp, m.ID)
		if err != nil && !transient(err) {
			return m, err
		}
		if err == nil && !next.IsOlder(m.InstanceID) {
			m = next
		}
	}
	return m, nil
}

// isUnsettled reports whether s can't be decided while its machine is in that state.
func isUnsettled(s release.Step, state string) bool {
	onItsWay := slices.Contains([]string{"creating", "starting", "updating", "replacing"}, state)
	return transitional(state) && state != "restarting" && !(s.Exact && onItsWay)
}

// hostAway is how long an attempt of a step waits for a host that can't be reached
// before it fails, and Temporal tries again.
const hostAway = time.Minute

// reached waits until Fly tells the whole of m. Of a machine whose host can't be
// reached it tells only a part, by which nobody can say whether it was changed.
func (a *Activities) reached(ctx context.Context, s release.Step, m fly.Machine) (fly.Machine, error) {
	for begun := time.Now(); len(m.Config) == 0 && Seen(m).Host != ""; {
		if time.Since(begun) > hostAway {
			return m, fmt.Errorf("machine %s of %s: its host is %s", m.ID, s.Target, m.HostStatus)
		}
		if err := pause(ctx, a.poll()); err != nil {
			return m, err
		}
		next, err := readMachine(ctx, a.Fly, s.FlyApp, m.ID, m.InstanceID)
		if err != nil {
			return m, err
		}
		m = next
	}
	return m, nil
}

// until waits until the machine is as is says. A machine that Fly no longer
// knows counts as destroyed.
func (a *Activities) until(ctx context.Context, s release.Step, id string, is func(fly.Machine) bool) error {
	for begun := time.Now(); ; {
		m, err := a.Fly.Machine(ctx, s.FlyApp, id)
		if errors.Is(err, fly.ErrNotFound) {
			m, err = fly.Machine{State: "destroyed"}, nil
		}
		switch {
		case err == nil && is(m):
			return nil
		case err == nil && m.State == "destroyed":
			return conflict(s, "was destroyed by somebody else")
		case err != nil && !transient(err):
			return err
		}
		if err := pause(ctx, a.pollInterval(time.Since(begun))); err != nil {
			return err
		}
	}
}

func transitional(state string) bool {
	return slices.Contains([]string{"creating", "starting", "stopping", "restarting", "suspending", "destroying", "updating", "replacing"}, state)
}

// stamped is config with more metadata. Everything else stays as it is written.
func stamped(config json.RawMessage, stamp map[string]string) json.RawMessage {
	return edited(config, "metadata", func(metadata map[string]json.RawMessage) {
		for key, value := range stamp {
			metadata[key] = quoted(value)
		}
	})
}

// standby is config for a machine that starts when the host of primary fails.
func standby(config json.RawMessage, primary string) json.RawMessage {
	config = edited(config, "env", func(env map[string]json.RawMessage) { env["FLY_STANDBY_FOR"] = quoted(primary) })
	return edited(config, "", func(top map[string]json.RawMessage) {
		top["standbys"] = json.RawMessage("[" + string(quoted(primary)) + "]")
	})
}

// edited is doc with one of its objects changed; "" is doc itself.
func edited(doc json.RawMessage, key string, edit func(map[string]json.RawMessage)) json.RawMessage {
	top := map[string]json.RawMessage{}
	if json.Unmarshal(doc, &top) != nil {
		return doc
	}
	top = maps.Clone(top)
	if key == "" {
		edit(top)
		return object(top)
	}
	inner := map[string]json.RawMessage{}
	if old, ok := top[key]; ok && json.Unmarshal(old, &inner) != nil {
		return doc
	}
	if inner == nil {
		inner = map[string]json.RawMessage{}
	}
	edit(inner)
	top[key] = object(inner)
	return object(top)
}

func quoted(s string) json.RawMessage { return object(s) }

func object(v any) json.RawMessage {
	doc, err := json.Marshal(v)
	if err != nil {
		panic(err) // raw messages that were decoded, and strings
	}
	return doc
}

package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// A command is something that a machine of its own runs to its end.
type command struct {
	step   release.Step
	name   string // of the machine: by it, another attempt finds it
	config json.RawMessage
	limit  time.Duration
	what   string // for people: "release command"
}

// run carries out the release command, once whoever dies. The machine is not
// destroyed by Fly when the command ends, so that its exit code can still be
// read by the attempt after a crash; CloseRollout removes it.
func (a *Activities) run(ctx context.Context, in StepInput) (StepResult, error) {
	s := in.Step
	c := command{step: s, name: s.Machine, limit: time.Duration(s.Wait), what: "release command"}
	if in.Again > 0 {
		c.name = fmt.Sprintf("%s-%d", c.name, in.Again+1)
	}
	c.config = oneShot(s.After, in.Stamp, c.name)
	m, exit, err := a.once(ctx, in, c)
	if err != nil {
		return StepResult{}, err
	}
	ran := &release.CommandResult{
		Target: s.Target, Command: s.Command, Machine: m.ID, ExitCode: exit.Code, Took: release.Duration(exit.At.Sub(startedAt(m)).Round(time.Millisecond)),
		Log: a.lastLines(ctx, s.FlyApp, m.ID),
	}
	return StepResult{Machine: Seen(m), Ran: ran}, nil
}

// check runs the machine checks beside a machine that was just changed.
func (a *Activities) check(ctx context.Context, in StepInput, changed fly.Machine) error {
	for i, config := range in.Step.MachineChecks {
		version := changed.InstanceID[max(0, len(changed.InstanceID)-6):]
		c := command{
			step: in.Step, what: fmt.Sprintf("machine check %d", i+1), limit: time.Duration(in.Step.Wait),
			name: fmt.Sprintf("check-%s-%s-%d", changed.ID, version, i+1),
		}
		config = edited(config, "env", func(env map[string]json.RawMessage) { env["FLY_TEST_MACHINE_IP"] = quoted(changed.PrivateIP) })
		c.config = oneShot(config, in.Stamp, c.name)
		m, _, err := a.once(ctx, in, c)
		if err != nil {
			return err
		}
		if err := a.remove(ctx, in.Step.FlyApp, m.ID, ""); err != nil {
			return err
		}
	}
	return nil
}

// oneShot is the config of a machine that runs one command and can then be
// looked at.
func oneShot(config json.RawMessage, stamp map[string]string, name string) json.RawMessage {
	stamp = maps.Clone(stamp)
	if stamp == nil {
		stamp = map[string]string{}
	}
	stamp[release.MetaMachine] = name
	config = edited(config, "", func(top map[string]json.RawMessage) { top["auto_destroy"] = json.RawMessage("false") })
	return stamped(config, stamp)
}

// once runs c to its end. It goes on with the machine that an earlier attempt
// made, wherever that was cut. Whatever ends it early stops the machine: no
// migration goes on behind the back of a release that is over.
func (a *Activities) once(ctx context.Context, in StepInput, c command) (fly.Machine, fly.Exit, error) {
	begun := time.Now()
	m, err := a.oneShotMachine(ctx, in, c)
	for err == nil {
		exit, ended := m.LastExit()
		switch reason := c.bad(m, exit, ended, begun); {
		case reason == "" && ended:
			return m, exit, nil
		case reason != "" && ended:
			return m, exit, a.commandFailed(ctx, c, m, reason, &exit.Code)
		case reason != "":
			return m, exit, a.commandFailed(ctx, c, m, a.stopped(ctx, c, m, reason), nil)
		}
		every := a.poll() / 10
		if err = a.goOn(ctx, c, m); err != nil {
			every = a.poll()
			if !passing(err) {
				break
			}
		}
		next, readErr := a.Fly.Machine(ctx, c.step.FlyApp, m.ID)
		if err = nil; readErr == nil {
			m = next
			if _, ended := m.LastExit(); ended {
				continue
			}
		} else if !transient(readErr) {
			err = readErr
		}
		if pause(ctx, every) != nil {
			break
		}
	}
	if ctx.Err() == nil {
		return m, fly.Exit{}, err
	}
	if m.ID != "" && aborted(ctx) {
		activity.GetLogger(ctx).Info("command "+a.stopped(ctx, c, m, "aborted"), "target", c.step.Target.String(), "machine", m.ID)
	}
	return m, fly.Exit{}, context.Cause(ctx)
}

// passing says whether asking a one-shot machine to go on may fail now and
// succeed at the next look: it may just have ended.
func passing(err error) bool {
	return transient(err) || errors.Is(err, fly.ErrInvalid) || errors.Is(err, fly.ErrPrecondition)
}

// goOn starts a machine that has never run, and else waits for it to stop. A
// machine that has run is never started again, whatever its events say.
func (a *Activities) goOn(ctx context.Context, c command, m fly.Machine) error {
	if (m.State == "stopped" || m.State == "created") && startedAt(m).IsZero() {
		return a.Fly.Start(ctx, c.step.FlyApp, m.ID, "")
	}
	return a.Fly.Wait(ctx, c.step.FlyApp, m.ID, fly.Wait{State: "stopped", Timeout: min(time.Minute, max(time.Second, c.limit/4))})
}

// bad says what is wrong with the command, or "": it runs on, or ended well.
func (c command) bad(m fly.Machine, exit fly.Exit, ended bool, begun time.Time) string {
	from := startedAt(m)
	if from.IsZero() {
		from = begun
	}
	switch {
	case ended && exit.OOM:
		return "ran out of memory"
	case ended && exit.Requested:
		return "was stopped by somebody else"
	case ended && exit.Code != 0:
		return "failed"
	case ended:
		return ""
	case m.State == "destroyed":
		return "was destroyed by somebody else before it ended"
	case m.State == "failed" || m.State == "launch_failed":
		return "could not be started"
	case time.Since(from) > c.limit:
		return fmt.Sprintf("did not end within %s", c.limit)
	}
	return ""
}

// startedAt is when m was started last; zero if never.
func startedAt(m fly.Machine) time.Time {
	for _, e := range m.Events {
		if e.Type == "start" {
			return e.At()
		}
	}
	return time.Time{}
}

// aborted says whether ctx ended because the workflow wants no more of this.
// When its worker ends, or was away for so long that Temporal gave the work to
// another, that one goes on.
func aborted(ctx context.Context) bool { return temporal.IsCanceledError(context.Cause(ctx)) }

// oneShotMachine finds the machine of c, or makes it, without starting it.
func (a *Activities) oneShotMachine(ctx context.Context, in StepInput, c command) (fly.Machine, error) {
	find := func(ctx context.Context) (fly.Machine, error) {
		all, err := a.Fly.AllMachines(ctx, c.step.FlyApp)
		if err != nil {
			return fly.Machine{}, err
		}
		for _, m := range all {
			if m.Name == c.name {
				return m, nil
			}
		}
		return fly.Machine{}, fly.ErrNotFound
	}
	m, err := a.recognise(ctx, find)
	if !errors.Is(err, fly.ErrNotFound) {
		return m, err
	}
	m, err = a.Fly.Create(ctx, c.step.FlyApp, fly.Create{
		Name: c.name, Region: c.step.Region, Config: c.config, SkipLaunch: true, MinSecretsVersion: in.Secrets,
	})
	if errors.Is(err, fly.ErrUnknownOutcome) {
		a.appear(ctx, mayAppear, find)
	}
	if err != nil {
		return m, err
	}
	m, err = a.settled(ctx, c.step, m)
	a.appear(ctx, mustAppear, find)
	return m, err
}

// stopped stops the machine of a command that must not go on, also when ctx has
// ended, and says whether that worked.
func (a *Activities) stopped(ctx context.Context, c command, m fly.Machine, why string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	err := a.Fly.Stop(ctx, c.step.FlyApp, m.ID, "")
	if err == nil {
		err = a.until(ctx, c.step, m.ID, func(m fly.Machine) bool { return m.State == "stopped" || m.State == "destroyed" })
	}
	if err != nil {
		activity.GetLogger(ctx).Warn("command not stopped", "target", c.step.Target.String(), "machine", m.ID, "error", err)
		return fmt.Sprintf("%s, and could not be stopped: %v", why, err)
	}
	return why + ", and was stopped"
}

// commandFailed is the error of a command, with its exit code and last output.
func (a *Activities) commandFailed(ctx context.Context, c command, m fly.Machine, reason string, code *int) error {
	f := release.Failure{
		Target: c.step.Target, Machine: m.ID, Name: m.Name, Group: c.step.Group, ExitCode: code,
		Reason: fmt.Sprintf("%s %s", c.what, reason), Log: a.lastLines(ctx, c.step.FlyApp, m.ID),
	}
	return refused(release.KindFailure, f, f)
}

package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
)

// A oneOff is a command that runs on its own machine.
type oneOff struct {
	*stepRun
	name   string // of the machine, by which another attempt finds it
	config json.RawMessage
	limit  time.Duration
	title  string // "release command"
}

// runReleaseCommand runs the command of a release exactly once, across worker restarts.
// The machine stays after the command ends, so that an attempt after a crash can read
// its exit code. CloseRollout removes it.
func (r *stepRun) runReleaseCommand(ctx context.Context) (Result, error) {
	s := r.Step
	c := oneOff{stepRun: r, name: s.Machine, limit: time.Duration(s.Wait), title: "release command"}
	if r.Retries > 0 {
		c.name = fmt.Sprintf("%s-%d", c.name, r.Retries+1)
	}
	c.config = oneOffConfig(r.Stamp, s.After.Doc, c.name)
	m, exit, err := c.run(ctx)
	if err != nil {
		return Result{}, err
	}
	return Result{Machine: r.describe(m), Command: &release.CommandResult{
		Target: s.Target, Command: s.Command, Machine: m.ID, ExitCode: exit.Code, Took: release.Duration(exit.At.Sub(startedAt(m)).Round(time.Millisecond)),
		Log: lastLogLines(ctx, r.Fly, s.FlyApp, m.ID),
	}}, nil
}

// runMachineChecks runs the machine checks of a changed machine, each on its own
// machine.
func (r *stepRun) runMachineChecks(ctx context.Context, changed fly.Machine) error {
	for i, config := range r.Step.MachineChecks {
		version := changed.InstanceID[max(0, len(changed.InstanceID)-6):]
		c := oneOff{
			stepRun: r, title: fmt.Sprintf("machine check %d", i+1), limit: time.Duration(r.Step.Wait),
			name: fmt.Sprintf("check-%s-%s-%d", changed.ID, version, i+1),
		}
		c.config = oneOffConfig(r.Stamp, setEnv(config, "FLY_TEST_MACHINE_IP", changed.PrivateIP), c.name)
		m, _, err := c.run(ctx)
		if err != nil {
			return err
		}
		if err := destroyMachine(ctx, r.Fly, r.Step.FlyApp, m.ID, ""); err != nil {
			return err
		}
	}
	return nil
}

// oneOffConfig returns the config of a machine that runs one command and is not
// destroyed by Fly.
func oneOffConfig(stamp map[string]string, config json.RawMessage, name string) json.RawMessage {
	config = editObject(config, "", func(top map[string]json.RawMessage) { top["auto_destroy"] = json.RawMessage("false") })
	return addMetadata(config, stampWithName(stamp, name))
}

// run runs c until it ends. It continues with the machine of an earlier attempt. If the
// command exceeds its limit or is aborted, it stops the machine: no migration continues
// after its release has ended.
func (c oneOff) run(ctx context.Context) (fly.Machine, fly.Exit, error) {
	begun := time.Now()
	m, err := c.findOrCreate(ctx)
	for err == nil {
		exit, ended := m.LastExit()
		switch problem := c.findProblem(m, exit, ended, begun); {
		case problem == "" && ended:
			return m, exit, nil
		case problem != "" && ended:
			return m, exit, c.newFailure(ctx, m, problem, &exit.Code)
		case problem != "":
			return m, exit, c.newFailure(ctx, m, c.stopAfter(ctx, m, problem), nil)
		}
		var interval time.Duration
		if interval, err = c.startOrWaitOnce(ctx, m); err != nil {
			break
		}
		next, readErr := c.Fly.Machine(ctx, c.Step.FlyApp, m.ID)
		switch {
		case readErr == nil:
			m = next
			if _, ended := m.LastExit(); ended {
				continue
			}
		case !isTransient(readErr):
			err = readErr
		}
		if sleep.For(ctx, interval) != nil {
			break
		}
	}
	if ctx.Err() == nil {
		return m, fly.Exit{}, err
	}
	if a := attemptOf(ctx); m.ID != "" && a.Aborted(ctx) {
		a.Log.Info("command "+c.stopAfter(ctx, m, "aborted"), "target", c.Step.Target.String(), "machine", m.ID)
	}
	return m, fly.Exit{}, context.Cause(ctx)
}

// startOrWaitOnce calls startOrWait and returns the delay before the next read. After
// an error that the next read may explain, the delay is longer: the machine may just
// have ended.
func (c oneOff) startOrWaitOnce(ctx context.Context, m fly.Machine) (interval time.Duration, err error) {
	err = c.startOrWait(ctx, m)
	switch {
	case err == nil:
		return c.poll() / 10, nil
	case isTransient(err), errors.Is(err, fly.ErrInvalid), errors.Is(err, fly.ErrPrecondition):
		return c.poll(), nil
	}
	return 0, err
}

// startOrWait starts a machine that has never run, otherwise it waits until the machine
// stops. It never starts a machine again.
func (c oneOff) startOrWait(ctx context.Context, m fly.Machine) error {
	if (m.State == "stopped" || m.State == "created") && startedAt(m).IsZero() {
		return c.Fly.Start(ctx, c.Step.FlyApp, m.ID, "")
	}
	return c.Fly.Wait(ctx, c.Step.FlyApp, m.ID, fly.Wait{State: "stopped", Timeout: min(time.Minute, max(time.Second, c.limit/4))})
}

// findProblem returns why the command failed, or "" if it runs or succeeded.
func (c oneOff) findProblem(m fly.Machine, exit fly.Exit, ended bool, begun time.Time) string {
	from := startedAt(m)
	if from.IsZero() {
		from = begun
	}
	switch {
	case ended && exit.OOM:
		return "ran out of memory"
	case ended && exit.Requested:
		return "was stopped by another client"
	case ended && exit.Code != 0:
		return "failed"
	case ended:
		return ""
	case m.State == "destroyed":
		return "was destroyed by another client before it ended"
	case m.State == "failed" || m.State == "launch_failed":
		return "could not be started"
	case time.Since(from) > c.limit:
		return fmt.Sprintf("did not end within %s", c.limit)
	}
	return ""
}

// startedAt returns the time of the last start of m, or zero.
func startedAt(m fly.Machine) time.Time {
	for _, e := range m.Events {
		if e.Type == "start" {
			return e.At()
		}
	}
	return time.Time{}
}

// findOrCreate finds the machine of c, or creates it without starting it.
func (c oneOff) findOrCreate(ctx context.Context) (fly.Machine, error) {
	m, err := c.findRepeatedly(ctx, c.findOneOff)
	if !errors.Is(err, fly.ErrNotFound) {
		return m, err
	}
	m, err = c.Fly.Create(ctx, c.Step.FlyApp, fly.Create{
		Name: c.name, Region: c.Step.Region, Config: c.config, SkipLaunch: true, MinSecretsVersion: c.Secrets,
	})
	if errors.Is(err, fly.ErrUnknownOutcome) {
		c.waitForCreated(ctx, maybeCreatedWait, c.findOneOff)
	}
	if err != nil {
		return m, err
	}
	m, err = c.waitStable(ctx, m)
	c.waitForCreated(ctx, createdWait, c.findOneOff)
	return m, err
}

// findOneOff finds the machine of c, also if it is destroyed. It returns
// fly.ErrNotFound if there is none.
func (c oneOff) findOneOff(ctx context.Context) (fly.Machine, error) {
	all, err := c.Fly.AllMachines(ctx, c.Step.FlyApp)
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

// stopAfter stops the machine of a command that must not continue because of reason,
// also if ctx has ended. It returns reason and whether the machine was stopped.
func (c oneOff) stopAfter(ctx context.Context, m fly.Machine, reason string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	err := c.Fly.Stop(ctx, c.Step.FlyApp, m.ID, "")
	if err == nil {
		err = c.waitUntil(ctx, m.ID, func(m fly.Machine) bool { return m.State == "stopped" || m.State == "destroyed" })
	}
	if err != nil {
		attemptOf(ctx).Log.Warn("command not stopped", "target", c.Step.Target.String(), "machine", m.ID, "error", err)
		return fmt.Sprintf("%s, and could not be stopped: %v", reason, err)
	}
	return reason + ", and was stopped"
}

// failure returns the error of a command, with its exit code and last output.
func (c oneOff) newFailure(ctx context.Context, m fly.Machine, reason string, code *int) error {
	return failureError(release.KindFailure, release.Failure{
		Target: c.Step.Target, Machine: m.ID, Name: m.Name, Group: c.Step.Group, ExitCode: code,
		Reason: fmt.Sprintf("%s %s", c.title, reason), Log: lastLogLines(ctx, c.Fly, c.Step.FlyApp, m.ID),
	})
}

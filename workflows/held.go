package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/release"
)

// These errors are the resolutions of an operator that end the current attempt.
var (
	errRollback = errors.New("rolled back by operator")
	errKeep     = errors.New("kept by operator")
	errAbandon  = errors.New("abandoned by operator")
)

// isGiveUp reports whether err means that an operator chose to keep or to abandon.
func isGiveUp(err error) bool { return errors.Is(err, errKeep) || errors.Is(err, errAbandon) }

// holdPrefixes precede the cause in the status. The other reasons have none.
var holdPrefixes = map[release.HoldReason]string{
	release.HoldNotRestored:  "the baseline could not be restored: ",
	release.HoldNotRemoved:   "the new version is healthy, but the old machines could not be removed: ",
	release.HoldIrreversible: "a release command has run, and its migrations are irreversible, so the old code may not work with the new database; the failure: ",
}

// holdRollout holds the rollout because of cause until an operator chooses one of
// choices. It returns as waitForResolution does.
func (r *rolloutRun) holdRollout(ctx workflow.Context, reason release.HoldReason, cause error, choices ...release.Choice) error {
	return r.waitForResolution(ctx, r.in.Plan.Environment, release.Hold{
		Reason: reason, Why: holdPrefixes[reason] + newCause(cause).Message, Choices: choices, Machines: r.describeMachines(ctx),
	}, cause)
}

// waitForResolution shows held in the status and waits until an operator resolves it. It
// returns nil for retry, otherwise cause wrapped in errRollback, errKeep or errAbandon.
func (c *statusLog) waitForResolution(ctx workflow.Context, environment string, held release.Hold, cause error) error {
	c.holdCount++
	held.Number = c.holdCount
	c.resolution = nil
	c.record(ctx, release.RolloutHeld(environment, held))
	c.enterPhase(ctx, release.HeldPhase, environment)
	if err := workflow.Await(ctx, func() bool { return c.resolution != nil }); err != nil {
		c.record(ctx, release.HoldEnded(environment, nil, ""))
		return err
	}
	text := fmt.Sprintf("%s by %s", c.resolution.Choice, c.resolution.By)
	if c.resolution.Reason != "" {
		text += ": " + c.resolution.Reason
	}
	c.record(ctx, release.HoldEnded(environment, c.resolution, fmt.Sprintf("held (%s), then %s", held.Why, text)))
	switch c.resolution.Choice {
	case release.ChoiceRollback:
		return fmt.Errorf("%w: %s: %w", errRollback, text, cause)
	case release.ChoiceKeep:
		return fmt.Errorf("%w: %s: %w", errKeep, text, cause)
	case release.ChoiceAbandon:
		return fmt.Errorf("%w: %s: %w", errAbandon, text, cause)
	}
	return nil
}

// describeMachines returns a line for each machine: on the plan, on the baseline or on
// neither. If Fly cannot be read, it returns a line that says so.
func (r *rolloutRun) describeMachines(ctx workflow.Context) []string {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	options := withBudget(ctx, release.TaskQueue, "Read machine state", time.Minute, 2*time.Minute)
	var now []release.State
	if err := workflow.ExecuteActivity(options, act.Observe, activities.ObserveInput{Targets: r.targetRefs(), Written: r.writtenVersions()}).Get(ctx, &now); err != nil {
		return []string{"unknown: Fly could not be read: " + errorMessage(err)}
	}
	now = r.in.Plan.WithKnownConfigs(now)
	r.recordMachines(ctx, now)
	if !r.hasBaseline() {
		return append(release.DescribeMachines(r.in.Plan.Goal(now), nil, now), "the baseline is not known")
	}
	return release.DescribeMachines(r.in.Plan.Goal(r.states), release.BaselineStates(r.baselines), now)
}

// registerResolutionHandlers registers the update and the signal that resolve a hold.
func (c *statusLog) registerResolutionHandlers(ctx workflow.Context) error {
	const shape = `When held: {"choice": "retry | rollback | keep | abandon", "by": "…", "reason": "…", "hold": number of the hold, or none}`
	c.handleSignals(ctx, workflow.GetSignalChannelWithOptions(ctx, release.ResolveSignal, workflow.SignalChannelOptions{Description: shape}),
		func(ctx workflow.Context, doc []byte) {
			if err := c.takeResolution(doc); err != nil {
				c.addNote(ctx, "a resolution does not count: %s", err)
			}
			c.showStatus(ctx)
		})
	return workflow.SetUpdateHandlerWithOptions(ctx, release.ResolveUpdate,
		func(_ workflow.Context, raw converter.RawValue) error {
			if err := c.takeResolution(raw.Payload().GetData()); err != nil {
				return temporal.NewNonRetryableApplicationError(err.Error(), "Refused", nil)
			}
			return nil
		},
		workflow.UpdateHandlerOptions{
			Description: shape,
			Validator: func(raw converter.RawValue) error {
				a, err := release.ParseResolution(raw.Payload().GetData())
				if err == nil {
					err = c.checkResolution(a)
				}
				if err != nil {
					return fmt.Errorf("this resolution does not count: %w", err)
				}
				return nil
			},
		})
}

// takeResolution records a resolution that came by update or signal, or returns why it
// does not count.
func (c *statusLog) takeResolution(doc []byte) error {
	a, err := release.ParseResolution(doc)
	if err == nil {
		err = c.checkResolution(a)
	}
	if err == nil {
		c.resolution = &a
	}
	return err
}

// checkResolution returns an error if a resolution does not count now. ParseResolution
// has checked that it is complete.
func (c *statusLog) checkResolution(a release.Resolution) error {
	held := c.status().Held
	switch {
	case held == nil:
		return fmt.Errorf("the rollout is not held: it is %s", c.status().Phase)
	case a.Hold != 0 && a.Hold != held.Number:
		return fmt.Errorf("it is for hold %d; this is hold %d", a.Hold, held.Number)
	case !slices.Contains(held.Choices, a.Choice):
		return fmt.Errorf("%q is no choice here; choose one of: %s", a.Choice, joinWords(held.Choices))
	case c.resolution != nil:
		return errors.New("the hold is already resolved")
	}
	return nil
}

// joinWords joins words with commas.
func joinWords[T ~string](words []T) string {
	var all []string
	for _, w := range words {
		all = append(all, string(w))
	}
	return strings.Join(all, ", ")
}

// holdIfIrreversible returns cause, unless a release command has run and the project
// calls its migrations irreversible. Then the rollout is held; nil means that the
// operator chose to retry, and another error is the reason to end.
func (r *rolloutRun) holdIfIrreversible(ctx workflow.Context, cause error) error {
	if !r.in.Irreversible || !r.ranCommand || isGiveUp(cause) || errors.Is(cause, errRollback) {
		return cause
	}
	choices := []release.Choice{release.ChoiceRollback, release.ChoiceKeep, release.ChoiceAbandon}
	if ctx.Err() == nil { // an aborted rollout cannot continue
		choices = append([]release.Choice{release.ChoiceRetry}, choices...)
	}
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	err := r.holdRollout(ctx, release.HoldIrreversible, cause, choices...)
	if err == nil {
		r.retries++
		return nil
	}
	return err
}

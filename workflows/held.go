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

var (
	errGoBack  = errors.New("rolled back by word of a person")
	errKeep    = errors.New("kept by word of a person")
	errAbandon = errors.New("abandoned by word of a person")
)

func gaveUp(err error) bool { return errors.Is(err, errKeep) || errors.Is(err, errAbandon) }

// hold stands still and asks a person: what it is about, and the error that led
// to it. nil means: try again.
func (r *roller) hold(ctx workflow.Context, about string, why error, choices ...release.Choice) error {
	return r.ask(ctx, r.in.Plan.Environment, release.Held{Why: about + causeOf(why).Message, Choices: choices, Machines: r.whatIsWhat(ctx)}, why)
}

// ask waits until a person answers held, which why led to. It returns nil for
// retry, else why as errGoBack, errKeep or errAbandon.
func (c *chronicle) ask(ctx workflow.Context, environment string, held release.Held, why error) error {
	c.holds++
	held.Number = c.holds
	c.answer, c.status.Held = nil, &held
	defer func() { c.status.Held = nil }()
	c.enter(ctx, release.HeldPhase, environment)
	if err := workflow.Await(ctx, func() bool { return c.answer != nil }); err != nil {
		return err
	}
	said := fmt.Sprintf("%s by %s", c.answer.Choice, c.answer.By)
	if c.answer.Reason != "" {
		said += ": " + c.answer.Reason
	}
	c.note("held (%s), then %s", held.Why, said)
	switch c.answer.Choice {
	case release.GoBack:
		return fmt.Errorf("%w: %s: %w", errGoBack, said, why)
	case release.Keep:
		return fmt.Errorf("%w: %s: %w", errKeep, said, why)
	case release.Abandon:
		return fmt.Errorf("%w: %s: %w", errAbandon, said, why)
	}
	return nil
}

// whatIsWhat says of every machine whether it is on the plan, on the baseline
// or on neither. What can't be read is said to be unknown.
func (r *roller) whatIsWhat(ctx workflow.Context) []string {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	short := budget(ctx, release.TaskQueue, "what is what?", time.Minute, 2*time.Minute)
	var now []release.State
	if err := workflow.ExecuteActivity(short, act.Observe, activities.ObserveInput{Targets: r.targetRefs(), Written: r.versions()}).Get(ctx, &now); err != nil {
		return []string{"unknown: Fly could not be read: " + plain(err)}
	}
	now = r.in.Plan.Remembered(now)
	r.seen(now)
	if !r.knowsBaseline() {
		return append(release.WhatIsWhat(r.in.Plan.Goal(now), nil, now), "what ran before is not known")
	}
	return release.WhatIsWhat(r.in.Plan.Goal(r.states), release.States(r.baselines), now)
}

// listenForAnswers registers the update and the signal that answer what is held.
func (c *chronicle) listenForAnswers(ctx workflow.Context) error {
	const shape = `When held: {"choice": "retry | rollback | keep | abandon", "by": "…", "reason": "…", "hold": number of the hold, or none}`
	c.receive(ctx, workflow.GetSignalChannelWithOptions(ctx, release.AnswerSignal, workflow.SignalChannelOptions{Description: shape}),
		func(ctx workflow.Context, doc []byte) {
			if err := c.takeAnswer(doc); err != nil {
				c.note("an answer does not count: %s", err)
			}
			c.show(ctx)
		})
	return workflow.SetUpdateHandlerWithOptions(ctx, release.AnswerUpdate,
		func(_ workflow.Context, raw converter.RawValue) error {
			if err := c.takeAnswer(raw.Payload().GetData()); err != nil {
				return temporal.NewNonRetryableApplicationError(err.Error(), "Refused", nil)
			}
			return nil
		},
		workflow.UpdateHandlerOptions{
			Description: shape,
			Validator: func(raw converter.RawValue) error {
				a, err := release.ReadAnswer(raw.Payload().GetData())
				if err == nil {
					err = c.refuseAnswer(a)
				}
				if err != nil {
					return fmt.Errorf("this answer does not count: %w", err)
				}
				return nil
			},
		})
}

// takeAnswer is the one place where answers come in. It returns why one does not
// count.
func (c *chronicle) takeAnswer(doc []byte) error {
	a, err := release.ReadAnswer(doc)
	if err == nil {
		err = c.refuseAnswer(a)
	}
	if err == nil {
		c.answer = &a
	}
	return err
}

// refuseAnswer returns why an answer does not count now, or nil. ReadAnswer has
// seen that it is complete.
func (c *chronicle) refuseAnswer(a release.Answer) error {
	held := c.status.Held
	switch {
	case held == nil:
		return fmt.Errorf("nobody is being asked: it is %s", c.status.Phase)
	case a.Hold != 0 && a.Hold != held.Number:
		return fmt.Errorf("it is for hold %d; this is hold %d", a.Hold, held.Number)
	case !slices.Contains(held.Choices, a.Choice):
		return fmt.Errorf("%q is no choice here; there are: %s", a.Choice, joined(held.Choices))
	case c.answer != nil:
		return errors.New("it was answered already")
	}
	return nil
}

func joined[T ~string](words []T) string {
	var all []string
	for _, w := range words {
		all = append(all, string(w))
	}
	return strings.Join(all, ", ")
}

// consider asks a person whether to go on after a failure that can't simply be
// taken back: a release command has changed something, and the project calls
// that irreversible. nil means: try again. Any error is the reason to end.
func (r *roller) consider(ctx workflow.Context, cause error) error {
	if !r.in.Irreversible || !r.ranCommand || gaveUp(cause) || errors.Is(cause, errGoBack) {
		return cause
	}
	choices := []release.Choice{release.GoBack, release.Keep, release.Abandon}
	if ctx.Err() == nil { // an aborted one can't go on
		choices = append([]release.Choice{release.Retry}, choices...)
	}
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	err := r.hold(ctx, "a release command has run, and its migrations are irreversible: the old code may not fit the new database; what failed: ", cause, choices...)
	if err == nil {
		r.again++
		return nil
	}
	return err
}

package workflows

import (
	"cmp"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// A release that waits for another workflow looks at it by itself after
// firstRecheck, then later and later: that may have been terminated, and tells nobody.
const (
	firstRecheck = time.Minute
	lastRecheck  = 15 * time.Minute
)

// A line is the releases that wait for one environment behind the release that
// holds it, or that is the next to hold it. The one that leaves tells the next,
// and hands it the rest of the line. Nobody polls.
type line struct {
	environment string           // that this release holds; "" if it holds none
	awaited     string           // that this release waits for
	behind      []release.Ticket // in the order in which they are served
	turn        bool             // the release was told to try
}

// ticket is the place of this release in a line.
func (r *releaser) ticket(env release.Environment) release.Ticket {
	return release.Ticket{
		Environment: env.Name, Release: r.status.ID, Revision: r.req.Revision, Since: r.status.Started, Rollback: r.req.Rollback != nil,
	}
}

// queue waits until the release may try to take the environment: it registers
// with the release that holds it, and waits to be told; from the second of its tries
// it lets some seconds pass if nobody holds it. A release that a newer one has overtaken
// meanwhile is superseded.
func (r *releaser) queue(ctx workflow.Context, env release.Environment, id string, tries int) error {
	r.enter(ctx, release.Queued, env.Name)
	r.line.awaited, r.line.turn = env.Name, false
	defer func() { r.line.awaited, r.status.Queue = "", "" }()
	var holding activities.Holding
	if err := workflow.ExecuteActivity(calling(ctx, "Read who holds "+env.Name), act.Holder, id).Get(ctx, &holding); err != nil {
		return err
	}
	if r.line.turn {
		return r.overtaken(ctx, env)
	}
	if holding.Text == "" && tries == 0 {
		return nil
	}
	if holding.Text == "" { // another was faster, or nobody knows why it is refused
		return workflow.Sleep(ctx, time.Second<<min(tries, 4))
	}
	r.status.Queue = holding.Text
	r.show(ctx)
	if holding.Release != "" {
		tickets := append([]release.Ticket{r.ticket(env)}, r.line.behind...)
		err := workflow.SignalExternalWorkflow(ctx, holding.Release, "", release.WaitSignal, tickets).Get(ctx, nil)
		if err == nil {
			r.line.behind = nil
		} else if ctx.Err() != nil {
			return err
		}
	}
	if err := r.awaitTurn(ctx, env, tries); err != nil || !r.line.turn {
		return err
	}
	return r.overtaken(ctx, env)
}

// awaitTurn waits until the release is told to try, or until it is time to look
// again.
func (r *releaser) awaitTurn(ctx workflow.Context, env release.Environment, tries int) error {
	isTime, stop := recheckTimer(ctx, tries, "Look again who holds "+env.Name)
	defer stop()
	return workflow.Await(ctx, func() bool { return r.line.turn || isTime() })
}

// recheckTimer starts the timer before the next look, after that many looks. stop
// ends it, if it is pending.
func recheckTimer(ctx workflow.Context, looks int, summary string) (isTime func() bool, stop func()) {
	ctx, stop = workflow.WithCancel(ctx)
	timer := workflow.NewTimerWithOptions(ctx, min(firstRecheck<<min(looks, 8), lastRecheck), workflow.TimerOptions{Summary: view.Summary(summary)})
	return timer.IsReady, stop
}

// overtaken ends a release that waits for an environment, and behind which a
// descendant of its revision waits, where the environment takes the newest only.
func (r *releaser) overtaken(ctx workflow.Context, env release.Environment) error {
	var others []release.Revision
	for _, t := range r.line.behind {
		if !t.Rollback {
			others = append(others, t.Revision)
		}
	}
	if env.Queue == release.QueueEach || r.req.Rollback != nil || r.broken != nil || len(others) == 0 {
		return nil
	}
	var newer *release.Revision
	err := workflow.ExecuteActivity(reading(ctx, "Compare the revisions that wait for "+env.Name), act.Overtaken, activities.OvertakenInput{
		Source: r.source(), Others: others,
	}).Get(ctx, &newer)
	if err == nil && newer != nil {
		err = &supersededError{environment: env.Name, newer: newer, waits: true}
	}
	return err
}

// leave tells the next release in the line that the environment is free.
func (r *releaser) leave(ctx workflow.Context) {
	r.line.environment = ""
	behind := r.line.behind
	r.line.behind = nil
	r.tellNext(ctx, behind)
}

// tellNext tells the first of the tickets' releases that is still there to try,
// and hands it the rest.
func (r *releaser) tellNext(ctx workflow.Context, tickets []release.Ticket) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	for i, t := range tickets {
		turn := release.Turn{Environment: t.Environment, Behind: tickets[i+1:]}
		err := workflow.SignalExternalWorkflow(ctx, t.Release, "", release.NextSignal, turn).Get(ctx, nil)
		if err == nil {
			return
		}
		workflow.GetLogger(ctx).Info("a waiting release is gone", "environment", t.Environment, "release", t.Release, "error", err)
	}
}

// lineUp adds tickets to the line: rollbacks first, then in the order of their
// releases' start.
func (r *releaser) lineUp(tickets []release.Ticket) {
	for _, t := range tickets {
		known := slices.ContainsFunc(r.line.behind, func(x release.Ticket) bool { return x.Release == t.Release })
		if !known && t.Release != r.status.ID {
			r.line.behind = append(r.line.behind, t)
		}
	}
	slices.SortStableFunc(r.line.behind, func(a, b release.Ticket) int {
		if a.Rollback != b.Rollback {
			if a.Rollback {
				return -1
			}
			return 1
		}
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Release, b.Release))
	})
}

// registerQueue registers the signals between releases that wait for one
// environment.
func (r *releaser) registerQueue(ctx workflow.Context) {
	r.receive(ctx, workflow.GetSignalChannelWithOptions(ctx, release.WaitSignal, workflow.SignalChannelOptions{
		Description: "Sent by releases: they wait for the environment that this one holds.",
	}), func(ctx workflow.Context, raw []byte) {
		tickets, err := release.ReadTickets(raw)
		switch {
		case err != nil:
			r.ignore(ctx, release.WaitSignal, err)
		case r.line.environment == tickets[0].Environment:
			r.lineUp(tickets)
		default:
			r.tellNext(ctx, tickets) // it is free already
		}
	})
	r.receive(ctx, workflow.GetSignalChannelWithOptions(ctx, release.NextSignal, workflow.SignalChannelOptions{
		Description: "Sent by the release that held the environment: this one is the next.",
	}), func(ctx workflow.Context, raw []byte) {
		turn, err := release.ReadTurn(raw)
		switch {
		case err != nil:
			r.ignore(ctx, release.NextSignal, err)
		case r.line.environment == turn.Environment || r.line.awaited == turn.Environment:
			r.line.turn = true
			r.lineUp(turn.Behind)
		default:
			r.tellNext(ctx, turn.Behind) // it waits no more
		}
	})
}

// ignore notes that a signal does not count.
func (c *chronicle) ignore(ctx workflow.Context, signal string, why error) {
	c.note("a signal %s does not count: %s", signal, why)
	c.show(ctx)
}

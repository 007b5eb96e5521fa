package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
)

const (
	maxQuickPlans     = 3
	replanInterval    = 15 * time.Second
	maxReplanInterval = 5 * time.Minute
)

// waitToReplan waits if more than maxQuickPlans plans in a row were stale: what makes
// them stale may last. An abort ends the wait, and then the next attempt.
func (r *releaseRun) waitToReplan(ctx workflow.Context, env release.Environment, tries int) {
	if tries <= maxQuickPlans {
		return
	}
	wait := min(time.Duration(tries-maxQuickPlans)*replanInterval, maxReplanInterval)
	err := workflow.NewTimerWithOptions(ctx, wait, workflow.TimerOptions{Summary: "Wait to plan " + env.Name + " again"}).Get(ctx, nil)
	if err != nil {
		workflow.GetLogger(ctx).Info("the wait for a new plan was ended", "release", r.status().ID, "error", err)
	}
}

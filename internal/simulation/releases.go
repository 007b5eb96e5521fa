package simulation

import (
	"cmp"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/release"
	"github.com/microbima/release/workflows"
)

// runReleases is the root workflow. It executes the releases of the case, and then the
// final release.
func (s *simulation) runReleases(ctx workflow.Context) error {
	jobs := workflow.NewWaitGroup(ctx)
	for i := range s.Releases {
		jobs.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer jobs.Done()
			if err := workflow.Sleep(ctx, time.Duration(s.Releases[i].At)); err != nil {
				return
			}
			s.runRelease(ctx, i)
		})
	}
	jobs.Wait(ctx)
	if err := workflow.Sleep(ctx, s.troubleEndDelay()); err != nil {
		return err
	}
	s.runFinalRelease(ctx)
	return nil
}

// runRelease executes release i of the case and checks its outcome.
func (s *simulation) runRelease(ctx workflow.Context, i int) {
	o := s.Releases[i]
	req := release.Request{Protocol: release.Protocol, Project: project, Repository: "https://example.com/shop.git", By: s.authorName(), Revision: s.revisionOf(o.Version), Apps: o.Apps}
	if o.Rollback {
		req.Revision = s.revisionOf(s.newestOrder().Version) // a rollback reads the files of the newest revision
		req.Rollback = &release.Rollback{Environment: s.Environments[len(s.Environments)-1].Name}
	}
	id := fmt.Sprintf("release/shop/%s-%d", req.Revision.Short(), i)
	report, err := s.executeRelease(ctx, id, req, o)
	s.checkReleaseEnd(id, o, report, err)
}

// executeRelease executes a Release workflow and returns its report.
func (s *simulation) executeRelease(ctx workflow.Context, id string, req release.Request, o Order) (report *release.Report, err error) {
	s.operators.addRelease(id, o)
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: id, WaitForCancellation: true})
	err = workflow.ExecuteChildWorkflow(ctx, workflows.Release, req).Get(ctx, &report)
	return report, err
}

// runFinalRelease executes a release after all trouble is over. It must succeed,
// because an environment must remain releasable. A second one must find nothing to
// change.
func (s *simulation) runFinalRelease(ctx workflow.Context) {
	s.endTroubles()
	s.operators.removePins()
	s.Answers = nil // an operator who wants the release to succeed
	s.checker.checkSettled()
	last := s.newestOrder()
	req := release.Request{Protocol: release.Protocol, Project: project, Repository: "https://example.com/shop.git", By: s.authorName(), Revision: s.revisionOf(last.Version)}
	o := Order{Version: last.Version, Reviews: s.approveEveryGate()}
	id := "release/shop/afterwards"
	before := s.result.Outcomes[string(release.Promoted)]
	report, err := s.executeRelease(ctx, id, req, o)
	if err == nil && report.Outcome == release.RolledBack && (s.operators.hasTerminated || s.result.Outcomes["stranded"] > 0) {
		// A terminated or abandoned release left a failing version, so the first
		// attempt is rolled back.
		s.countOutcome(report, err)
		s.logEvent("%s ended: %s", id, describeEnd(report, err))
		id += "-2"
		report, err = s.executeRelease(ctx, id, req, o)
	}
	s.checkFinalRelease(id, o, report, err, before > 0)
	if err == nil && report.Outcome == release.Promoted {
		again, err := s.executeRelease(ctx, "release/shop/again", req, o)
		if err != nil || again.Outcome != release.Unchanged {
			s.addViolation("a second release of %s was not unchanged: %s", last.Version, describeEnd(again, err))
		}
		s.countOutcome(again, err)
	}
}

// approveEveryGate returns reviews that are enough for each gate.
func (s *simulation) approveEveryGate() (all []Review) {
	most := 0
	for _, e := range s.Environments {
		most = max(most, e.Approvals)
	}
	if s.hasTrouble(historyLost) {
		most = max(most, 1) // a lost history requires an approval without a gate too
	}
	for i := range most {
		all = append(all, Review{After: Duration(time.Duration(i+1) * 20 * time.Second), By: []string{"ben", "cas", "dee"}[i]})
	}
	return all
}

// troubleEndDelay returns the time until all trouble is over: leases of others have
// expired, and Fly is reachable.
func (s *simulation) troubleEndDelay() time.Duration {
	over := time.Duration(0)
	for _, t := range s.Troubles {
		if t.In == "" {
			over = max(over, time.Duration(t.At+t.For))
		} else {
			over = max(over, time.Since(s.started)+time.Duration(t.At+t.For))
		}
	}
	return max(time.Minute, over-time.Since(s.started)+time.Minute)
}

// endTroubles ends all trouble.
func (s *simulation) endTroubles() {
	s.mu.Lock()
	s.troubleOver = true
	s.mu.Unlock()
	s.fly.ClearFaults()
	s.network.endTroubles()
	s.workers.endTroubles()
	for _, e := range s.Environments {
		for _, a := range s.Apps {
			for _, m := range s.fly.Machines(flyAppOf(e.Name, a.Name)) {
				s.fly.Recover(flyAppOf(e.Name, a.Name), m.ID)
				s.fly.Heal(flyAppOf(e.Name, a.Name), m.ID)
			}
		}
	}
}

// countOutcome adds the outcome of a release to the result.
func (s *simulation) countOutcome(report *release.Report, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Releases++
	s.result.Outcomes[outcomeOf(report, err)]++
}

// terminatedOutcome is the outcome of a terminated release.
const terminatedOutcome = "terminated"

// outcomeOf returns the outcome of a release, also if it was terminated or stranded.
func outcomeOf(report *release.Report, err error) string {
	if isTerminated(err) {
		return terminatedOutcome
	}
	if err != nil || report == nil {
		return "stranded"
	}
	return string(cmp.Or(report.Outcome, "none"))
}

// describeEnd returns the outcome of a release and its cause, as text.
func describeEnd(report *release.Report, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case report == nil:
		return "without a report"
	case report.Cause == nil:
		return string(report.Outcome)
	}
	return fmt.Sprintf("%s: %s", report.Outcome, report.Cause.Message)
}

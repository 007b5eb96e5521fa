package workflows_test

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/microbima/release/release"
	"github.com/microbima/release/workflows"
)

// A signal with unknown or missing fields changes nothing, and a note has the reason.
func TestSignals_Ignored(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.req.To = "staging"
		s.onPhase(release.RollingOut, "staging", func() {
			s.signal(release.ExtendSignal, `{"to": "production", "By": "ben"}`)
			s.signal(release.ExtendSignal, `{"to": "production"}`)
			s.signal(release.AbortSignal, `{"by": "ben", "why": "x"}`)
			s.signal(release.EnqueueSignal, `[{"environment": "staging", "who": "x"}]`)
			s.signal(release.TurnSignal, `{"environment": "staging", "line": []}`)
			s.update(release.ExtendUpdate, `{"to": "production", "by": "ben", "bake": "0s"}`)
		})
		rep := s.run()
		if rep.Outcome != release.Promoted || len(rep.Environments) != 1 || rep.Abort != nil || s.taken > 0 {
			t.Errorf("%s, through %d environments, abort %+v; %d updates were accepted", rep.Outcome, len(rep.Environments), rep.Abort, s.taken)
		}
		notes := strings.Join(rep.Notes, "\n")
		for _, want := range []string{
			`the path was not extended: unknown field "By"`, `the path was not extended: field by is empty`,
			`a signal abort does not count: unknown field "why"`, `a signal enqueue does not count:`, `a signal turn does not count:`,
		} {
			if !strings.Contains(notes, want) {
				t.Errorf("%q is not in the notes:\n%s", want, notes)
			}
		}
	})
}

// Only a signal with a name and a reason removes a pin.
func TestPin_IgnoredSignals(t *testing.T) {
	env := new(testsuite.WorkflowTestSuite).NewTestWorkflowEnvironment()
	env.RegisterWorkflow(workflows.Pin)
	pin := release.Pin{Project: "shop", Environment: "staging", By: "ana"}
	for i, doc := range []string{`{"by": "eve"}`, `{"by": "eve", "reason": "x", "plan": "y"}`, `{"by": "ben", "reason": "mended"}`} {
		env.RegisterDelayedCallback(func() {
			env.SignalWorkflow(release.UnpinSignal, converter.NewRawValue(payload(doc)))
		}, time.Duration(i+1)*time.Hour)
	}
	env.ExecuteWorkflow(workflows.Pin, pin)
	var taken release.Unpinning
	if err := env.GetWorkflowResult(&taken); err != nil || taken.By != "ben" || taken.Reason != "mended" {
		t.Errorf("unpinned by %+v, %v", taken, err)
	}
}

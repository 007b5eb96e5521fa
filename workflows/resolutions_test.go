package workflows_test

import (
	"strings"
	"testing"

	"go.temporal.io/sdk/converter"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// A malformed answer, or one to another hold, leaves the rollout held, and the report
// has the reason for each.
func TestHeld_IgnoredResolutions(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s.req.Revision = revision("v2")
		const web = "shop-production-web"
		s.sim.Inject(flysim.Fault{Route: update, App: web, Times: 1, Effect: flysim.NeverPasses})
		s.sim.Inject(flysim.Fault{Route: update, App: web, Status: 422})
		s.onApproval(s.approve)
		bad := map[string]string{
			`{"choice":"abandon","by":"eve","hold":7}`:     "it is for hold 7; this is hold 1",
			`{"choice":"abandon","by":"eve","force":true}`: `unknown field "force"`,
			`{"choice":"abandon","by":" "}`:                "by is empty",
			`{"by":"eve"}`:                                 "choice is empty",
			`{"choice":"rollback","by":"eve"}`:             "is no choice here",
			`"abandon"`:                                    "no JSON object",
		}
		s.resolveWhenHeldAfter(release.ChoiceKeep, func() {
			for doc := range bad {
				if err := s.env.SignalWorkflowByID(release.RolloutID("shop", "production"), release.ResolveSignal, converter.NewRawValue(payload(doc))); err != nil {
					t.Error(err)
				}
			}
		})
		rep := s.run()
		if rep.Outcome != release.Kept {
			t.Errorf("%s: %+v", rep.Outcome, rep.Cause)
		}
		notes := strings.Join(rep.Notes, "\n")
		for doc, why := range bad {
			if !strings.Contains(notes, why) {
				t.Errorf("no note has why %s does not count (%s):\n%s", doc, why, notes)
			}
		}
	})
}

package workflows_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// An environment with ten thousand machines is refused with the limit, before any
// change.
func TestRelease_TenThousandMachinesRefused(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		const machines = 10_000
		s := newScenario(t, repo{})
		config := fmt.Appendf(nil, `{"image":"registry.fly.io/shop-staging-api@%s","metadata":{"fly_platform_version":"v2","fly_process_group":"app"}}`, digestOf("api", "v1"))
		for i := range machines {
			s.sim.Put("shop-staging-api", fly.Machine{ID: fmt.Sprintf("%014x", i+1), Name: fmt.Sprint("m", i), Region: "ams", Config: config})
		}
		s.req.Revision, s.req.To = revision("v2"), "staging"
		rep := s.run()
		if rep.Outcome != release.Stopped || rep.Cause == nil {
			t.Fatalf("the outcome is %q: %+v", rep.Outcome, rep.Cause)
		}
		for _, part := range []string{"staging is too large", "10002 steps", "the limit is 7500", "--app"} {
			if !strings.Contains(rep.Cause.Message, part) {
				t.Errorf("%q does not have %q", rep.Cause.Message, part)
			}
		}
		for _, r := range s.sim.Requests() {
			if strings.Contains(r.Route, "/machines") && !strings.HasPrefix(r.Route, "GET ") {
				t.Errorf("a change was sent: %s of %s", r.Route, r.App)
			}
		}
	})
}

// No activity of a rollback is on the queue of builds.
func TestRollback_NoBuildQueue(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s.req.Rollback = &release.Rollback{Environment: "staging", Emergency: true, Reason: "it is broken"}
		s.run()
		started := s.temporal.startedActivities()
		if len(started) == 0 {
			t.Fatal("no activity was started")
		}
		for _, info := range started {
			if info.TaskQueue == release.BuildQueue {
				t.Errorf("activity %s of a rollback is on the queue %s", info.ActivityType.Name, info.TaskQueue)
			}
		}
	})
}

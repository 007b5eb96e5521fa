package worker_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"

	"google.golang.org/protobuf/proto"
)

// Nine apps with two machines each, whose configs hold a file of 50 kB: a release
// that is aborted half-way is brought back byte for byte, and so is one whose
// rollout is terminated half-way.
func TestLargeConfigs_Abort(t *testing.T) {
	const project = "aborted"
	sim := quick()
	repo := largeRepo{apps: 9, size: 50_000}
	for i := range repo.apps {
		sim.CreateApp(flyApp(project, "production", repo.app(i)), "")
	}
	y := newYard(t, sim, repo, nil, worker.Options{Builds: 4})
	first := request(project, "v1")
	if report := y.ends(y.start(release.ID(project, first.Revision), first)); report.Outcome != release.Promoted {
		t.Fatalf("preparing: %s: %+v", report.Outcome, report.Cause)
	}
	before := y.configs(project, repo)
	for name, version := range map[string]string{"aborted": "v2", "terminated": "v3"} {
		calm := sim.Inject(flysim.Fault{Route: update, App: flyApp(project, "production", repo.app(8)), Status: http.StatusServiceUnavailable})
		req := request(project, version)
		run := y.start(release.ID(project, req.Revision), req)
		y.await("the first app is changed", func() bool {
			for _, m := range sim.Machines(flyApp(project, "production", repo.app(0))) {
				if bytes.Equal(release.Canonical(m.Config), before[m.ID]) {
					return false
				}
			}
			return true
		})
		if name == "aborted" {
			y.must(y.c.CancelWorkflow(t.Context(), run.GetID(), run.GetRunID()))
			calm()
		} else {
			y.settleTerminated(project, calm)
		}
		if report := y.ends(run); report.Outcome != release.RolledBack {
			t.Errorf("%s: the outcome is %q: %+v", name, report.Outcome, report.Cause)
		}
		after := y.configs(project, repo)
		for id, config := range before {
			if !bytes.Equal(after[id], config) {
				t.Errorf("%s: machine %s is not as it was: %.300s", name, id, after[id])
			}
		}
		histories, err := historiesOf(t.Context(), y.c, run)
		y.must(err)
		for _, h := range histories {
			for _, e := range h.events {
				if size := proto.Size(e); size > payload.Max {
					t.Errorf("%s: %s has a %s of %d kB", name, h.id, e.GetEventType(), size>>10)
				}
			}
		}
	}
}

// settleTerminated terminates the rollout of a project, ends the trouble, and has
// what it left rolled back.
func (y *yard) settleTerminated(project string, calm func()) {
	y.t.Helper()
	id := release.RolloutID(project, "production")
	y.must(y.c.TerminateWorkflow(y.t.Context(), id, "", "by hand"))
	var s release.Status
	y.await("the rollout is held", func() bool {
		v, err := y.c.QueryWorkflow(y.t.Context(), id, "", release.StatusQuery)
		return err == nil && v.Get(&s) == nil && s.Held != nil
	})
	calm()
	u, err := y.c.UpdateWorkflow(y.t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: release.AnswerUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{release.Answer{Choice: release.GoBack, By: "dora", Reason: "because"}},
	})
	if err == nil {
		err = u.Get(y.t.Context(), nil)
	}
	if err != nil {
		y.t.Fatalf("held because %s, with choices %v: %v", s.Held.Why, s.Held.Choices, err)
	}
}

func (y *yard) must(err error) {
	y.t.Helper()
	if err != nil {
		y.t.Fatal(err)
	}
}

// More config than a plan may have is refused in words before the gate, and
// nothing is changed.
func TestLargeConfigs_Refused(t *testing.T) {
	const project = "toolarge"
	sim := quick()
	repo := largeRepo{apps: 30, size: 50_000}
	for i := range repo.apps {
		sim.CreateApp(flyApp(project, "production", repo.app(i)), "")
	}
	y := newYard(t, sim, repo, nil, worker.Options{Builds: 4})
	req := request(project, "v1")
	begun := time.Now()
	report := y.ends(y.start(release.ID(project, req.Revision), req))
	if report.Outcome != release.Stopped || report.Cause == nil || !strings.Contains(report.Cause.Message, "kB") {
		t.Errorf("the outcome is %q: %+v", report.Outcome, report.Cause)
	}
	t.Logf("refused after %s: %s", time.Since(begun), report.Cause.Message)
	for i := range repo.apps {
		if n := len(sim.Machines(flyApp(project, "production", repo.app(i)))); n > 0 {
			t.Errorf("%s has %d machines", repo.app(i), n)
		}
	}
}

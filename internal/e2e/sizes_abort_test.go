package e2e_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// A release of nine apps with two machines each, whose configs contain a file of 50 kB,
// is aborted in the middle and restored byte for byte.
func TestLargeConfigs_Abort(t *testing.T) {
	const project = "aborted"
	sim := newFastFly()
	repo := largeRepo{apps: 9, size: 50_000}
	for i := range repo.apps {
		sim.CreateApp(flyApp(project, "production", repo.app(i)), "")
	}
	y := newServerEnv(t, sim, repo, nil, worker.Options{Builds: 4})
	first := request(project, "v1")
	if report := y.waitForReport(y.startRelease(release.ReleaseID(project, first.Revision), first)); report.Outcome != release.Promoted {
		t.Fatalf("preparing: %s: %+v", report.Outcome, report.Cause)
	}
	before := y.machineConfigs(project, repo)
	endFault := sim.Inject(flysim.Fault{Route: update, App: flyApp(project, "production", repo.app(8)), Status: http.StatusServiceUnavailable})
	req := request(project, "v2")
	run := y.startRelease(release.ReleaseID(project, req.Revision), req)
	y.waitUntil("the first app is changed", func() bool {
		for _, m := range sim.Machines(flyApp(project, "production", repo.app(0))) {
			if bytes.Equal(machineconfig.Canonical(m.Config), before[m.ID]) {
				return false
			}
		}
		return true
	})
	if err := y.c.CancelWorkflow(t.Context(), run.GetID(), run.GetRunID()); err != nil {
		t.Fatal(err)
	}
	endFault()
	if report := y.waitForReport(run); report.Outcome != release.RolledBack {
		t.Errorf("the outcome is %q: %+v", report.Outcome, report.Cause)
	}
	after := y.machineConfigs(project, repo)
	for id, config := range before {
		if !bytes.Equal(after[id], config) {
			t.Errorf("machine %s is not as it was: %.300s", id, after[id])
		}
	}
	histories, err := historiesOf(t.Context(), y.c, run)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range histories {
		for _, e := range h.events {
			if size := proto.Size(e); size > payload.Max {
				t.Errorf("%s has a %s of %d kB", h.id, e.GetEventType(), size>>10)
			}
		}
	}
}

// Configs larger than Temporal's limits are refused before the gate with a clear error,
// and nothing is changed.
func TestLargeConfigs_Refused(t *testing.T) {
	const project = "toolarge"
	sim := newFastFly()
	repo := largeRepo{apps: 30, size: 50_000}
	for i := range repo.apps {
		sim.CreateApp(flyApp(project, "production", repo.app(i)), "")
	}
	y := newServerEnv(t, sim, repo, nil, worker.Options{Builds: 4})
	req := request(project, "v1")
	report := y.waitForReport(y.startRelease(release.ReleaseID(project, req.Revision), req))
	if report.Outcome != release.Stopped || report.Cause == nil || !strings.Contains(report.Cause.Message, "too large") {
		t.Errorf("the outcome is %q: %+v", report.Outcome, report.Cause)
	}
	for i := range repo.apps {
		if n := len(sim.Machines(flyApp(project, "production", repo.app(i)))); n > 0 {
			t.Errorf("%s has %d machines", repo.app(i), n)
		}
	}
}

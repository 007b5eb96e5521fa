package e2e_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// Limits for an environment of a thousand machines. Temporal's limits are 2 MB per
// value and 51,200 events.
const (
	mostPayload = 1 << 20
	mostEvents  = 15_000
	mostMemory  = 300 << 20
)

// A release of one environment with a thousand machines, on a worker in a process of its
// own, stays within the limits.
func TestThousandMachines(t *testing.T) {
	const machines, project = 1000, "thousand"
	w := newProcessEnv(t)
	s := projectFixture{}
	s.createApps(w.sim, project)
	app := flyApp(project, "staging", "api")
	config := fmt.Appendf(nil, `{"image":"registry.fly.io/%s@%s","env":{"LEVEL":"info"},"metadata":{"fly_platform_version":"v2","fly_process_group":"app"}}`,
		app, digestOf("api", commitOf("v1")))
	for range machines {
		w.sim.Put(app, fly.Machine{Region: "ams", Config: config})
	}
	if err := w.createNamespace(project); err != nil {
		t.Fatal(err)
	}
	hand, err := w.startWorker(t.Context(), project, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer hand.stop()
	c, err := client.Dial(client.Options{HostPort: w.temporal, Namespace: project, Logger: errorLogger(os.Stderr), DataConverter: worker.DataConverter()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	req := request(project, "v2")
	req.To, req.Apps = "staging", []string{"api"}
	begin := time.Now()
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: release.ReleaseID(project, req.Revision), TaskQueue: release.TaskQueue}, release.ReleaseWorkflow, req)
	if err != nil {
		t.Fatal(err)
	}
	var report release.Report
	if err := run.Get(t.Context(), &report); err != nil || report.Outcome != release.Promoted {
		t.Fatalf("%s: %+v, %v\n%s", report.Outcome, report.Cause, err, hand.said.String())
	}
	took := time.Since(begin)
	for _, m := range w.sim.Machines(app) {
		if m.ImageRef.Digest != digestOf("api", commitOf("v2")) {
			t.Fatalf("machine %s runs %s", m.ID, m.ImageRef.Digest)
		}
	}
	histories, err := historiesOf(t.Context(), c, run)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range histories {
		largest := 0
		for _, e := range h.events {
			largest = max(largest, proto.Size(e))
		}
		if len(h.events) > mostEvents || largest > mostPayload {
			t.Errorf("%s has %d events, the largest of %d kB", h.id, len(h.events), largest>>10)
		}
		t.Logf("%s: %d events, the largest of %d kB", h.id, len(h.events), largest>>10)
	}
	t.Logf("%d machines took %.1f s", machines, took.Seconds())
	memory, ok := readPeakMemory(hand.cmd.Process.Pid)
	if !ok {
		t.Skip("how much memory a process took can't be read here: no /proc")
	}
	t.Logf("the worker took %d MB", memory>>20)
	if memory > mostMemory {
		t.Errorf("the worker took %d MB", memory>>20)
	}
}

// readPeakMemory returns the peak memory of a process in bytes.
func readPeakMemory(pid int) (int, bool) { return readMemory(pid, "VmHWM") }

// readMemory returns a memory figure of a process from the kernel, in bytes.
func readMemory(pid int, what string) (int, bool) {
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	found := regexp.MustCompile(what + `:\s+(\d+) kB`).FindSubmatch(doc)
	if err != nil || found == nil {
		return 0, false
	}
	kb, err := strconv.Atoi(string(found[1]))
	return kb << 10, err == nil
}

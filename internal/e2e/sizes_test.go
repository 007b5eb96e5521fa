package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/payload"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

// incompressible returns n incompressible bytes derived from name.
func incompressible(name string, n int) []byte {
	seed := [32]byte{}
	copy(seed[:], name)
	b := make([]byte, n)
	for i, random := 0, rand.NewChaCha8(seed); i < n; i++ {
		b[i] = byte(random.Uint64())
	}
	return b
}

// A largeRepo is a project of several apps whose machines each get a file. The file
// differs per app and commit.
type largeRepo struct {
	apps, size int
}

func (l largeRepo) app(i int) string { return fmt.Sprintf("app%02d", i) }

// Files implements activities.Git.
func (l largeRepo) Files(_ context.Context, url, commit string) (fs.FS, error) {
	s := projectFixture{only: "production", gate: "none", wait: "20s"}
	for i := range l.apps {
		s.apps = append(s.apps, l.app(i))
	}
	project := strings.TrimSuffix(url[strings.LastIndex(url, "/")+1:], ".git")
	files := s.files(project)
	for i := range l.apps {
		toml := files["infra/fly/"+l.app(i)+"/production/fly.toml"]
		toml.Data = fmt.Appendf(toml.Data, "[[files]]\nguest_path = \"/file\"\nraw_value = %q\n",
			base64.StdEncoding.EncodeToString(incompressible(l.app(i)+commit, l.size)))
	}
	return files, nil
}

// Checkout implements activities.Git.
func (largeRepo) Checkout(_ context.Context, _, _ string, fn func(string) error) error {
	return fn(".")
}

// Lineage implements activities.Git.
func (largeRepo) Lineage(ctx context.Context, url, commit string, running []string) (release.Lineage, error) {
	return projectSet{}.Lineage(ctx, url, commit, running)
}

// A serverEnv is a worker and a Temporal in this process.
type serverEnv struct {
	t   *testing.T
	c   client.Client
	sim *flysim.Sim
	fly *fly.Client
}

func newServerEnv(t *testing.T, sim *flysim.Sim, git activities.Git, change func(*activities.Activities), o worker.Options) *serverEnv {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: startTemporal(t, "").Address(), Logger: errorLogger(io.Discard), DataConverter: worker.DataConverter()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	t.Cleanup(sim.Close)
	atFly := flyAt("http://fly")
	atFly.HTTP = &http.Client{Transport: sim.Transport()}
	a := newActivities(atFly, git, t.TempDir())
	if change != nil {
		change(a)
	}
	w := worker.New(c, a, o)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return &serverEnv{t, c, sim, atFly}
}

func (y *serverEnv) startRelease(id string, req release.Request) client.WorkflowRun {
	y.t.Helper()
	run, err := y.c.ExecuteWorkflow(y.t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: release.TaskQueue}, release.ReleaseWorkflow, req)
	if err != nil {
		y.t.Fatal(err)
	}
	return run
}

// waitForReport waits for a release and returns its report.
func (y *serverEnv) waitForReport(run client.WorkflowRun) (report release.Report) {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), 3*time.Minute)
	defer cancel()
	if err := run.Get(ctx, &report); err != nil {
		y.t.Fatal(err)
	}
	return report
}

// waitUntil waits until is returns true.
func (y *serverEnv) waitUntil(what string, is func() bool) {
	y.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			y.t.Fatalf("it never came to it that %s", what)
		}
	}
}

// machineConfigs returns the configs of all machines of a project, by machine.
func (y *serverEnv) machineConfigs(project string, repo largeRepo) map[string][]byte {
	all := map[string][]byte{}
	for i := range repo.apps {
		for _, m := range y.sim.Machines(flyApp(project, "production", repo.app(i))) {
			all[m.ID] = machineconfig.Canonical(m.Config)
		}
	}
	return all
}

// A release of nine apps with two machines each, whose configs contain a file of 50 kB
// that changes with the version, fails in the middle and is restored byte for byte. No
// value comes near Temporal's limit.
func TestLargeConfigs_FailureHalfWay(t *testing.T) {
	const project = "large"
	sim := newFastFly()
	sim.Latency.Boot = 100 * time.Millisecond
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
	if len(before) != 18 {
		t.Fatalf("there are %d machines, want 18", len(before))
	}

	// The other apps need the first one, whose machines are changed by then.
	const update = "POST /v1/apps/{app}/machines/{id}"
	sim.Inject(flysim.Fault{Route: update, App: flyApp(project, "production", repo.app(8)), Status: http.StatusUnprocessableEntity, Times: 1})
	second := request(project, "v2")
	run := y.startRelease(release.ReleaseID(project, second.Revision), second)
	if report := y.waitForReport(run); report.Outcome != release.RolledBack {
		t.Errorf("the outcome is %q: %+v", report.Outcome, report.Cause)
	}
	updates := 0
	for _, r := range sim.Requests() {
		if r.Route == update && r.App == flyApp(project, "production", repo.app(0)) && r.Status < 300 {
			updates++
		}
	}
	if updates != 4 {
		t.Errorf("the two machines of the first app were updated %d times, want there and back", updates)
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
		largest, all := 0, 0
		for _, e := range h.events {
			largest, all = max(largest, proto.Size(e)), all+proto.Size(e)
		}
		t.Logf("%s: %d events of %d kB, the largest of %d kB", h.id, len(h.events), all>>10, largest>>10)
		if largest > payload.Max {
			t.Errorf("%s has an event of %d kB", h.id, largest>>10)
		}
	}
}

// A machine created by another client during the rollout, with a config larger than
// Temporal's limit, does not block a rollback and is left alone.
func TestRollback_LargeMachineOfAnotherClient(t *testing.T) {
	const project, foreign = "grown", "17811f9f0e0000"
	sim := newFastFly()
	sim.Latency.Boot = 300 * time.Millisecond
	s := projectFixture{only: "production", gate: "none"}
	s.createApps(sim, project)
	s.createMachines(sim, project, "production", "v1")
	y := newServerEnv(t, sim, projectSet{project: s}, nil, worker.Options{Builds: 4})
	app := flyApp(project, "production", "api")
	req := request(project, "v2")
	run := y.startRelease(release.ReleaseID(project, req.Revision), req)
	y.waitUntil("a machine is changed", func() bool {
		return slices.ContainsFunc(sim.Machines(app), func(m fly.Machine) bool { return m.ImageRef.Digest == digestOf("api", commitOf("v2")) })
	})
	var files []string
	for i := range 30 {
		files = append(files, fmt.Sprintf(`{"guest_path":"/%d","raw_value":%q}`, i, base64.StdEncoding.EncodeToString(incompressible(fmt.Sprint(i), 100_000))))
	}
	sim.Put(app, fly.Machine{ID: foreign, Name: "by-hand", Region: "ams", Config: fmt.Appendf(nil,
		`{"image":"registry.fly.io/x@%s","files":[%s],"metadata":{"fly_platform_version":"v2","fly_process_group":"app"}}`,
		digestOf("api", commitOf("v1")), strings.Join(files, ","))})
	if err := y.c.CancelWorkflow(t.Context(), run.GetID(), run.GetRunID()); err != nil {
		t.Fatal(err)
	}
	if report := y.waitForReport(run); report.Outcome != release.RolledBack {
		t.Errorf("the outcome is %q: %+v", report.Outcome, report.Cause)
	}
	machines := sim.Machines(app)
	if !slices.ContainsFunc(machines, func(m fly.Machine) bool { return m.ID == foreign }) {
		t.Errorf("machine %s is gone", foreign)
	}
	for _, m := range machines {
		if m.ImageRef.Digest != digestOf("api", commitOf("v1")) {
			t.Errorf("machine %s runs %s", m.ID, m.ImageRef.Digest)
		}
	}
}

// A result larger than Temporal's limit is not retried, and the error names the limit. A
// release whose lineage is that large stops before any change.
func TestTooLargeResult_NotRetried(t *testing.T) {
	const project = "talkative"
	sim := newFastFly()
	s := projectFixture{only: "production", gate: "none"}
	s.createApps(sim, project)
	s.createMachines(sim, project, "production", "v1")
	git := &largeLineageRepo{projectSet: projectSet{project: s}}
	y := newServerEnv(t, sim, git, nil, worker.Options{Builds: 4})
	req := request(project, "v2")
	if report := y.waitForReport(y.startRelease(release.ReleaseID(project, req.Revision), req)); report.Outcome != release.Promoted {
		t.Fatalf("the outcome is %q: %+v", report.Outcome, report.Cause)
	}
	req = request(project, "v3")
	report := y.waitForReport(y.startRelease(release.ReleaseID(project, req.Revision), req))
	if report.Outcome != release.Stopped || report.Cause == nil || !strings.Contains(report.Cause.Message, "too large") || !strings.Contains(report.Cause.Message, "2 MB") {
		t.Errorf("the outcome is %q: %+v", report.Outcome, report.Cause)
	}
	if n := git.asked.Load(); n != 1 {
		t.Errorf("it was tried %d times, want once", n)
	}
	for _, m := range sim.Machines(flyApp(project, "production", "api")) {
		if m.ImageRef.Digest != digestOf("api", commitOf("v2")) {
			t.Errorf("machine %s runs %s", m.ID, m.ImageRef.Digest)
		}
	}
}

// A largeLineageRepo repository returns a lineage of 3 MB.
type largeLineageRepo struct {
	projectSet
	asked atomic.Int64
}

// Lineage implements activities.Git.
func (t *largeLineageRepo) Lineage(ctx context.Context, url, commit string, running []string) (release.Lineage, error) {
	t.asked.Add(1)
	lineage, err := t.projectSet.Lineage(ctx, url, commit, running)
	lineage.Why = base64.StdEncoding.EncodeToString(incompressible(commit, 3<<20))
	return lineage, err
}

// blockedBuilds is a builder that blocks until the end of the test.
type blockedBuilds struct {
	recipe
	project string
	begun   *atomic.Int64
}

// Build implements activities.Builder.
func (b blockedBuilds) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	if !strings.HasPrefix(req.Repository, "registry.fly.io/"+b.project+"-") {
		b.begun.Add(1)
		<-ctx.Done()
		return image.Built{}, ctx.Err()
	}
	return b.recipe.Build(ctx, src, req)
}

// An emergency rollback does not wait for builds: it ends while 30 releases wait for two
// build slots. The time until its first change is printed.
func TestEmergencyRollback_ManyBuilds(t *testing.T) {
	const project, releases = "urgent", 30
	sim := newFastFly()
	s := projectFixture{only: "production", gate: "none"}
	s.createApps(sim, project)
	s.createMachines(sim, project, "production", "v1")
	projects, begun := projectSet{project: s}, new(atomic.Int64)
	for i := range releases {
		other := fmt.Sprint("busy", i)
		projects[other] = s
		s.createApps(sim, other)
	}
	y := newServerEnv(t, sim, projects, func(a *activities.Activities) {
		a.Go = blockedBuilds{project: project, begun: begun}
	}, worker.Options{Builds: 2, Grace: time.Millisecond})
	req := request(project, "v2")
	if report := y.waitForReport(y.startRelease(release.ReleaseID(project, req.Revision), req)); report.Outcome != release.Promoted {
		t.Fatalf("preparing: %s: %+v", report.Outcome, report.Cause)
	}
	var busy []client.WorkflowRun
	for i := range releases {
		other := request(fmt.Sprint("busy", i), "v1")
		busy = append(busy, y.startRelease(release.ReleaseID(other.Project, other.Revision), other))
	}
	y.waitUntil("every place to build is taken", func() bool { return begun.Load() >= 2 })

	back := request(project, "v2")
	back.Rollback = &release.Rollback{Environment: "production", Emergency: true, Reason: "it is broken"}
	ordered := time.Now()
	run := y.startRelease(release.RollbackID(project, "production"), back)
	report := y.waitForReport(run)
	if report.Outcome == release.Stopped || report.Outcome == release.Unchanged {
		t.Fatalf("the rollback ended %s: %+v", report.Outcome, report.Cause)
	}
	for _, m := range sim.Machines(flyApp(project, "production", "api")) {
		if m.ImageRef.Digest != digestOf("api", commitOf("v1")) {
			t.Errorf("machine %s runs %s", m.ID, m.ImageRef.Digest)
		}
	}
	for _, r := range sim.Requests() {
		if r.At.After(ordered) && r.Route == "POST /v1/apps/{app}/machines/{id}" {
			t.Logf("%d releases wait for builds; first change of an emergency rollback after %.2f s, its end after %.2f s", releases, r.At.Sub(ordered).Seconds(), time.Since(ordered).Seconds())
			break
		}
	}
	for _, b := range busy {
		d, err := y.c.DescribeWorkflow(t.Context(), b.GetID(), b.GetRunID())
		if err != nil || d.WorkflowCloseTime != nil {
			t.Errorf("%s does not wait for its build any more: %v", b.GetID(), err)
		}
	}
}

// Identity implements activities.Git.
func (largeRepo) Identity(_ context.Context, url, _ string) (release.Repository, error) {
	return release.Repository{Address: release.NormalizeAddress(url)}, nil
}

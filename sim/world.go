package sim

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing/fstest"
	"time"

	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/config"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
	"github.com/microbima/release/workflows"
)

// A world is a Case that happens.
type world struct {
	Case
	fly   *flysim.Sim
	line  *line
	act   *activities.Activities
	env   *testsuite.TestWorkflowEnvironment
	begun time.Time
	over  chan struct{}
	staff *staff
	watch *watch
	crowd *crowd

	mu      sync.Mutex
	result  Result
	waiting []pending // trouble that waits for its phase
	healed  bool      // no trouble begins any more
}

// newWorld must be called in a bubble.
func newWorld(c Case) *world {
	w := &world{Case: c, begun: time.Now(), over: make(chan struct{}), result: newResult()}
	w.fly = &flysim.Sim{
		Latency: flysim.Latency{
			Change: 200 * time.Millisecond, Boot: 2 * time.Second, Check: time.Second, Stop: time.Second,
			Destroy: 300 * time.Millisecond, Command: 15 * time.Second,
		},
		Limits: c.Limits,
	}
	w.line = newLine(c.Seed, w.fly.Transport())
	w.watch = newWatch(w)
	w.line.watch = w.watch
	w.staff, w.crowd = newStaff(w), newCrowd(w)
	w.act = &activities.Activities{
		Fly:      w.client(w.line),
		Temporal: &temporalClient{w},
		Git:      repository{c},
		Go:       builder{c},
		Registry: "registry.fly.io",
		Edge:     &http.Client{Transport: edge{w.fly}},
		Poll:     time.Duration(c.Poll),
	}
	suite := new(testsuite.WorkflowTestSuite)
	suite.SetLogger(silence{})
	w.env = suite.NewTestWorkflowEnvironment()
	w.env.RegisterWorkflowWithOptions(w.releases, workflow.RegisterOptions{Name: "releases"})
	w.env.RegisterWorkflow(workflows.Release)
	w.env.RegisterWorkflow(workflows.Rollout)
	w.env.RegisterWorkflow(workflows.Pin)
	w.env.RegisterActivity(w.act)
	KeepTime(w.env, w.over, &observed{world: w}, w.staff)
	return w
}

// silence is a log that nobody keeps.
type silence struct{}

func (silence) Debug(string, ...any)        {}
func (silence) Info(string, ...any)         {}
func (silence) Warn(string, ...any)         {}
func (silence) Error(string, ...any)        {}
func (s silence) With(...any) sdklog.Logger { return s }

func (w *world) client(way http.RoundTripper) *fly.Client {
	return &fly.Client{
		FlapsURL: "http://fly", APIURL: "http://fly", UIEXURL: "http://fly",
		HTTP: &http.Client{Transport: patient{way}}, Unlimited: !w.Limits,
	}
}

// violate records that a guarantee does not hold.
func (w *world) violate(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Violations = append(w.result.Violations, fmt.Sprintf("%s after %s", fmt.Sprintf(format, args...), time.Since(w.begun).Round(time.Millisecond)))
}

// tell adds a line to what is said of a failing case.
func (w *world) tell(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Story = append(w.result.Story, fmt.Sprintf("%10s  %s", time.Since(w.begun).Round(time.Millisecond), fmt.Sprintf(format, args...)))
}

// A repository is the project's, in memory.
type repository struct{ Case }

// Files implements activities.Git.
func (r repository) Files(_ context.Context, _, commitHash string) (fs.FS, error) {
	files := fstest.MapFS{"release.toml": {Data: []byte(r.releaseToml())}}
	for _, a := range r.Apps {
		files[a.Name+"/main.go"] = &fstest.MapFile{Data: []byte("package main")}
		for _, e := range r.Environments {
			files["infra/fly/"+a.Name+"/"+e.Name+"/fly.toml"] = &fstest.MapFile{Data: []byte(r.flyToml(a, e, versionOf(commitHash)))}
		}
	}
	return files, nil
}

// Checkout implements activities.Git.
func (r repository) Checkout(_ context.Context, _, _ string, fn func(string) error) error {
	return fn(".")
}

// Lineage implements activities.Git: the versions follow each other.
func (r repository) Lineage(_ context.Context, _, commitHash string, running []string) (release.Lineage, error) {
	var history []string
	for _, v := range versions {
		history = append(history, commit(v))
	}
	return StraightLineage(history, commitHash, running), nil
}

// StraightLineage returns the lineage of a commit in a history without branches,
// oldest first. A commit that is not in it has diverged.
func StraightLineage(history []string, commit string, running []string) release.Lineage {
	lineage := release.Lineage{Running: running}
	var relations []release.Relation
	at := slices.Index(history, commit)
	for _, r := range running {
		switch i := slices.Index(history, r); {
		case r == commit:
			relations = append(relations, release.Same)
		case i < 0 || at < 0:
			relations = append(relations, release.Diverged)
			lineage.Takes++
		case i < at:
			relations = append(relations, release.Forward)
		default:
			relations = append(relations, release.Backward)
			lineage.Newer = &release.Revision{Commit: r}
			lineage.Takes = max(lineage.Takes, i-at)
		}
	}
	lineage.Relation = release.Joined(relations)
	return lineage
}

// A builder "builds" by knowing the digest: what is built is no part of the
// process.
type builder struct{ Case }

// Build implements activities.Builder.
func (b builder) Build(_ context.Context, src image.Source, req image.Request) (image.Built, error) {
	i := slices.IndexFunc(b.Apps, func(a App) bool { return a.Name == req.Name })
	return image.Built{Image: release.Image(req.Repository + "@" + b.Apps[i].digest(versionOf(src.Revision.Commit)))}, nil
}

// Ready implements activities.Builder.
func (builder) Ready(context.Context, release.Recipe) error { return nil }

// edge answers as Fly's proxy would: 200 while a machine passes, else 503. Where
// none runs it starts those that it may, and waits for a moment.
type edge struct{ sim *flysim.Sim }

// RoundTrip implements http.RoundTripper.
func (e edge) RoundTrip(req *http.Request) (*http.Response, error) {
	app, _, _ := strings.Cut(req.URL.Host, ".")
	status := http.StatusServiceUnavailable
	for tries := 0; status != http.StatusOK; tries++ {
		running := false
		for _, m := range e.sim.Machines(app) {
			running = running || runs(m) && !m.Cordoned
			if healthy(m) && !m.Cordoned {
				status = http.StatusOK
			}
		}
		if status == http.StatusOK || running && tries == 0 || tries > 8 {
			break
		}
		if !running {
			for _, m := range e.sim.Machines(app) {
				e.sim.Wake(app, m.ID)
			}
		}
		if err := wait(req.Context(), time.Second); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: http.NoBody, Request: req}, nil
}

// healthy says whether m is started with every check passing, without asking
// the code that is being looked at.
func healthy(m fly.Machine) bool {
	return m.State == "started" && m.HostStatus != "unreachable" && !slices.ContainsFunc(m.Checks, func(c fly.Check) bool { return c.Status != "passing" })
}

// furnish makes the Fly apps, and the machines that run before the first
// release, on v1.
func (w *world) furnish() error {
	files, err := repository{w.Case}.Files(context.Background(), "", commit("v1"))
	if err != nil {
		return err
	}
	p, _, err := config.Load(files)
	if err != nil {
		return err
	}
	for i, e := range p.Environments {
		for _, t := range e.Targets {
			a, env, _ := w.app(t.FlyApp)
			w.fly.CreateApp(t.FlyApp, "")
			if !env.Empty && slices.ContainsFunc(a.Groups, func(g Group) bool { return g.Service }) {
				w.fly.SetAddresses(t.FlyApp, "v6", "shared_v4")
			}
			if a.Secret {
				w.fly.SetSecrets(t.FlyApp, map[string]string{"KEY": "1"})
			}
			if env.Empty {
				continue
			}
			spec, err := config.Spec(p, t, release.Image("registry.fly.io/"+flyApp(p.Environments[0].Name, a.Name)+"@"+a.digest("v1")), release.State{Target: t.Target})
			if err != nil {
				return err
			}
			for _, g := range spec.Groups {
				group, _ := a.group(g.Name)
				if err := w.place(i, t.FlyApp, group, g.New[0].Config); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// place puts the machines of a group.
func (w *world) place(environment int, flyAppName string, g Group, config json.RawMessage) error {
	var first string
	for i, s := range g.Machines {
		id := fmt.Sprintf("%02x%s", environment, shortHash(fmt.Sprint(flyAppName, g.Name, i))[:12])
		m := fly.Machine{ID: id, Name: fmt.Sprintf("%s-%d", g.Name, i), Region: "ams", Config: config, State: s.State, Cordoned: s.Cordoned}
		if g.Volume {
			v, err := w.client(w.fly.Transport()).CreateVolume(context.Background(), flyAppName, fly.NewVolume{Name: "data", Region: "ams", SizeGB: 1})
			if err != nil {
				return err
			}
			m.Config = withVolume(m.Config, v.ID)
		}
		if i == 0 {
			first = id
		}
		if s.Crashed {
			m.Events = crashEvents(time.Now())
		}
		if g.Standby && i > 0 && i == len(g.Machines)-1 {
			m.State, m.Config = "stopped", standingBy(m.Config, first)
		}
		w.fly.Put(flyAppName, m)
		if s.Sick && m.State == "started" {
			w.fly.FailChecks(flyAppName, id, "it was sick before")
		}
	}
	return nil
}

// crashEvents returns the events of a machine whose process failed at that time and
// that Fly no longer restarts, newest first.
func crashEvents(at time.Time) []fly.Event {
	exit := &fly.EventRequest{ExitEvent: &fly.ExitEvent{ExitCode: 3, ExitedAt: at}, RestartCount: 10}
	return []fly.Event{
		{Type: "exit", Status: "stopped", Source: "flyd", Timestamp: at.UnixMilli(), Request: exit},
		{Type: "start", Status: "started", Source: "flyd", Timestamp: at.Add(-time.Second).UnixMilli()},
		{Type: "launch", Status: "created", Source: "user", Timestamp: at.Add(-time.Minute).UnixMilli()},
	}
}

func withVolume(config json.RawMessage, id string) json.RawMessage {
	return edit(config, func(doc map[string]any) {
		if mounts, ok := doc["mounts"].([]any); ok && len(mounts) > 0 {
			if m, ok := mounts[0].(map[string]any); ok {
				m["volume"], m["name"], m["size_gb"], m["encrypted"] = id, "data", 1, true // as Fly tells it
			}
		}
	})
}

func standingBy(config json.RawMessage, primary string) json.RawMessage {
	return edit(config, func(doc map[string]any) {
		doc["standbys"] = []string{primary}
		env, _ := doc["env"].(map[string]any)
		if env == nil {
			env = map[string]any{}
		}
		env["FLY_STANDBY_FOR"] = primary
		doc["env"] = env
	})
}

func edit(config json.RawMessage, f func(map[string]any)) json.RawMessage {
	doc := map[string]any{}
	if err := json.Unmarshal(config, &doc); err != nil {
		panic(err) // it is one of ours
	}
	f(doc)
	out, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return out
}

// releases is the workflow whose children are the releases of the case.
func (w *world) releases(ctx workflow.Context) error {
	jobs := workflow.NewWaitGroup(ctx)
	for i := range w.Releases {
		jobs.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer jobs.Done()
			if err := workflow.Sleep(ctx, time.Duration(w.Releases[i].At)); err != nil {
				return
			}
			w.release(ctx, i)
		})
	}
	jobs.Wait(ctx)
	if err := workflow.Sleep(ctx, w.calm()); err != nil {
		return err
	}
	w.afterwards(ctx)
	return nil
}

// release runs one release of the case to its end, and looks at how it ended.
func (w *world) release(ctx workflow.Context, i int) {
	o := w.Releases[i]
	req := release.Request{Protocol: release.Protocol, Project: project, Repository: "https://example.com/shop.git", By: w.author(), Revision: w.revision(o.Version), Apps: o.Apps}
	if o.Rollback {
		req.Revision = w.revision(w.newest().Version) // the files are those of the newest
		req.Rollback = &release.Rollback{Environment: w.Environments[len(w.Environments)-1].Name}
	}
	id := fmt.Sprintf("release/shop/%s-%d", req.Revision.Short(), i)
	report, err := w.run(ctx, id, req, o)
	w.ended(id, o, report, err)
}

// run starts a Release workflow and returns its report.
func (w *world) run(ctx workflow.Context, id string, req release.Request, o Order) (report *release.Report, err error) {
	w.crowd.begins(id, o)
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: id, WaitForCancellation: true})
	err = workflow.ExecuteChildWorkflow(ctx, workflows.Release, req).Get(ctx, &report)
	return report, err
}

// afterwards releases once more when all trouble is over: the environment must
// still be one that can be released to.
func (w *world) afterwards(ctx workflow.Context) {
	w.heal()
	w.crowd.unpin()
	w.watch.settled()
	last := w.newest()
	req := release.Request{Protocol: release.Protocol, Project: project, Repository: "https://example.com/shop.git", By: w.author(), Revision: w.revision(last.Version)}
	o := Order{Version: last.Version, Decisions: w.yes()}
	id := "release/shop/afterwards"
	before := w.result.Outcomes[string(release.Promoted)]
	report, err := w.run(ctx, id, req, o)
	if err == nil && report.Outcome == release.RolledBack && (w.crowd.cut || w.result.Outcomes["stranded"] > 0) {
		// What a release left that was terminated or abandoned was not good, and is taken back.
		w.count(report, err)
		w.tell("%s ended: %s", id, said(report, err))
		id += "-2"
		report, err = w.run(ctx, id, req, o)
	}
	w.endedAfterwards(id, o, report, err, before > 0)
	if err == nil && report.Outcome == release.Promoted {
		again, err := w.run(ctx, "release/shop/again", req, o)
		if err != nil || again.Outcome != release.Unchanged {
			w.violate("a second release of %s was not unchanged: %s", last.Version, said(again, err))
		}
		w.count(again, err)
	}
}

// yes are the decisions that let a release pass every gate.
func (w *world) yes() (all []Decision) {
	most := 0
	for _, e := range w.Environments {
		most = max(most, e.Approvals)
	}
	if w.hasTrouble(historyLost) {
		most = max(most, 1) // who has to be asked is asked without a gate, too
	}
	for i := range most {
		all = append(all, Decision{After: Duration(time.Duration(i+1) * 20 * time.Second), By: []string{"ben", "cas", "dee"}[i]})
	}
	return all
}

// calm is how long to wait before trouble counts as over: leases of strangers
// have run out, and Fly is back.
func (w *world) calm() time.Duration {
	over := time.Duration(0)
	for _, t := range w.Troubles {
		if t.In == "" {
			over = max(over, time.Duration(t.At+t.For))
		} else {
			over = max(over, time.Since(w.begun)+time.Duration(t.At+t.For))
		}
	}
	return max(time.Minute, over-time.Since(w.begun)+time.Minute)
}

// heal ends all trouble on Fly.
func (w *world) heal() {
	w.mu.Lock()
	w.healed = true
	w.mu.Unlock()
	w.fly.ClearFaults()
	w.line.heal()
	w.staff.heal()
	for _, e := range w.Environments {
		for _, a := range w.Apps {
			for _, m := range w.fly.Machines(flyApp(e.Name, a.Name)) {
				w.fly.Recover(flyApp(e.Name, a.Name), m.ID)
				w.fly.Heal(flyApp(e.Name, a.Name), m.ID)
			}
		}
	}
}

func (w *world) count(report *release.Report, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Releases++
	w.result.Outcomes[outcomeOf(report, err)]++
}

// cut is the outcome of a release that was terminated.
const cut = "terminated"

func outcomeOf(report *release.Report, err error) string {
	if isTerminated(err) {
		return cut
	}
	if err != nil || report == nil {
		return "stranded"
	}
	return string(cmp.Or(report.Outcome, "none"))
}

// said is how a release ended, for people.
func said(report *release.Report, err error) string {
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

// Identity implements activities.Git.
func (repository) Identity(_ context.Context, url, _ string) (release.Repository, error) {
	return release.Repository{Address: release.Address(url)}, nil
}

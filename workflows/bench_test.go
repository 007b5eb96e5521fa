package workflows_test

import (
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"go.temporal.io/sdk/converter"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/microbima/release/config"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
	"github.com/microbima/release/workflows"
)

// machineDuration is how long one machine takes on the simulated Fly: update, boot and
// checks.
const machineDuration = 3430 * time.Millisecond

// BenchmarkRollout measures one rollout from its first activity to its last, in virtual
// time: one app, all machines started, no bake, and only the settle time of the
// strategy. For bluegreen s/rollout is the time until traffic is on green; ideal is
// then the last of n creates at Fly's limit.
func BenchmarkRollout(b *testing.B) {
	for _, tc := range []struct {
		name, strategy, maxDown string
		machines, atOnce        int
		limits                  bool // Fly enforces its published limits
	}{
		{"rolling/6", "rolling", "0.33", 6, 2, true},
		{"rolling/60", "rolling", "0.33", 60, 20, true},
		{"rolling-one/60", "rolling", "1", 60, 1, true},
		{"bluegreen/20", "bluegreen", "0.33", 20, 20, false},
		{"bluegreen-limited/20", "bluegreen", "0.33", 20, 20, true},
		{"canary/6", "canary", "0.33", 6, 2, true},
		{"immediate/60", "immediate", "0.33", 60, 60, true},
		{"rolling/1000", "rolling", "0.33", 1000, 330, true},
	} {
		b.Run(tc.name, func(b *testing.B) {
			var m rolloutCost
			for b.Loop() {
				m = runRollout(b, tc.machines, tc.strategy, tc.maxDown, tc.limits)
			}
			ideal := time.Duration(math.Ceil(float64(tc.machines)/float64(tc.atOnce))) * machineDuration
			if tc.strategy == "bluegreen" && tc.limits {
				ideal = time.Duration(tc.machines-3)*time.Second + machineDuration // a create a second after the first 3
			}
			n := float64(tc.machines)
			b.ReportMetric(m.took.Seconds(), "s/rollout")
			b.ReportMetric(m.whole.Seconds(), "s/whole")
			b.ReportMetric(m.took.Seconds()/ideal.Seconds(), "wall/ideal")
			b.ReportMetric(float64(m.requests), "flyreq")
			b.ReportMetric(float64(m.requests)/n, "flyreq/machine")
			b.ReportMetric(float64(m.activities)/n, "activities/machine")
			// An upper bound: each activity takes three events, and three more for a
			// workflow task if it ends alone.
			b.ReportMetric(6*float64(m.activities+2)/n, "events/machine")
			b.ReportMetric(float64(m.payload)/1024, "kB-largest-payload")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// rolloutCost is the cost of a rollout.
type rolloutCost struct {
	took       time.Duration // until traffic is on the new version
	whole      time.Duration
	requests   int
	activities int
	payload    int // bytes of the largest value given to Temporal
}

// runRollout runs a rollout of one app and returns its cost. synctest needs a test, so it
// runs one.
func runRollout(b *testing.B, machines int, strategy, maxDown string, limits bool) (m rolloutCost) {
	b.Helper()
	ran := false
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{
		Name: "rollout", F: func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { m, ran = measureRollout(t, machines, strategy, maxDown, limits), true })
		},
	}})
	if !ok || !ran {
		b.Fatal("the rollout failed")
	}
	return m
}

// measureRollout runs the rollout in a scenario and returns its cost.
func measureRollout(t *testing.T, machines int, strategy, maxDown string, limits bool) (m rolloutCost) {
	s := newScenario(t, repo{})
	s.act.Fly.(*fly.Client).Unlimited, s.sim.Limits = false, limits
	plan := s.planUpdate(machines, strategy, maxDown)
	before := s.sim.Counts()[""]
	count := &payloadMeter{DataConverter: worker.DataConverter()}
	s.env.SetDataConverter(count)
	begun := time.Now()
	s.env.ExecuteWorkflow(workflows.Rollout, release.RolloutRequest{Project: "shop", Release: "release/shop/1", Revision: revision("v2"), Plan: plan})
	m.took, m.requests = time.Since(begun), s.sim.Counts()[""]-before
	m.whole = m.took
	time.Sleep(5 * time.Second) // until canceled activities have ended
	m.activities = len(s.temporal.startedActivities())
	var rep release.Report
	if err := s.env.GetWorkflowResult(&rep); err != nil || rep.Outcome != release.Promoted {
		t.Fatal(rep.Outcome, rep.Cause, err)
	}
	for _, r := range s.sim.Requests() {
		if r.Route == "POST /v1/apps/{app}/machines/{id}/uncordon" {
			m.took = r.At.Sub(begun)
		}
	}
	m.payload = int(count.bytes.Load())
	return m
}

// planUpdate adds machines that run v1 to an app and plans v2.
func (s *scenario) planUpdate(machines int, strategy, maxDown string) release.Plan {
	return s.newPlanner(machines, strategy, maxDown)()
}

// newPlanner adds the machines, observes them and returns a function that plans.
func (s *scenario) newPlanner(machines int, strategy, maxDown string) func() release.Plan {
	s.t.Helper()
	files := repo{strategy: strategy, maxDown: maxDown}.files()
	project, _, err := config.Load(fstest.MapFS(files))
	if err != nil {
		s.t.Fatal(err)
	}
	target := project.Environments[0].Targets[0]
	image := func(version string) release.Image {
		return release.Image("registry.fly.io/" + target.FlyApp + "@" + digestOf("api", version))
	}
	fresh, err := config.Spec(project, target, image("v1"), release.State{Target: target.Target})
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range machines {
		s.sim.Put(target.FlyApp, fly.Machine{ID: fmt.Sprintf("%014x", i+1), Name: fmt.Sprint("m", i), Region: "ams", Config: fresh.Groups[0].New[0].Config.Doc})
	}
	state, err := driver.ObserveTarget(s.t.Context(), s.act.Fly, driver.TargetRef{Target: target.Target, FlyApp: target.FlyApp})
	if err != nil {
		s.t.Fatal(err)
	}
	return func() release.Plan {
		spec, err := config.Spec(project, target, image("v2"), state)
		if err != nil {
			panic(err)
		}
		plan, err := release.NewPlan("staging", commitOf("v2"), []release.Spec{spec}, []release.State{state})
		if err != nil {
			panic(err)
		}
		return plan.Seal("run")
	}
}

// A payloadMeter is a data converter that records the size of the largest payload.
type payloadMeter struct {
	converter.DataConverter
	bytes atomic.Int64
}

func (l *payloadMeter) record(p *commonpb.Payloads) {
	for _, p := range p.GetPayloads() {
		for n := int64(len(p.GetData())); ; {
			was := l.bytes.Load()
			if n <= was || l.bytes.CompareAndSwap(was, n) {
				break
			}
		}
	}
}

// ToPayloads implements converter.DataConverter.
func (l *payloadMeter) ToPayloads(values ...any) (*commonpb.Payloads, error) {
	p, err := l.DataConverter.ToPayloads(values...)
	l.record(p)
	return p, err
}

// ToPayload implements converter.DataConverter.
func (l *payloadMeter) ToPayload(value any) (*commonpb.Payload, error) {
	p, err := l.DataConverter.ToPayload(value)
	l.record(&commonpb.Payloads{Payloads: []*commonpb.Payload{p}})
	return p, err
}

// BenchmarkPlan measures planning for an environment with a thousand machines, from
// fly.toml and the observed state.
func BenchmarkPlan(b *testing.B) {
	b.Run("1000", func(b *testing.B) {
		var spec func() release.Plan
		ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{
			Name: "plan", F: func(t *testing.T) {
				inVirtualTime(t, func(t *testing.T) { spec = newScenario(t, repo{}).newPlanner(1000, "rolling", "0.33") })
			},
		}})
		if !ok || spec == nil {
			b.Fatal("no plan")
		}
		for b.Loop() {
			spec()
		}
	})
}

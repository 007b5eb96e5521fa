package release_test

import (
	"fmt"
	"time"

	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// NewPlan returns the steps that update two machines from version 1 to version 2, one at
// a time. A target that matches its spec has no steps.
func ExampleNewPlan() {
	target := release.Target{App: "web", Environment: "production"}
	before, after := release.Image("registry.fly.io/shop-web@sha256:1"), release.Image("registry.fly.io/shop-web@sha256:2")
	config := func(image release.Image) release.Config {
		return machineconfig.Read(fmt.Appendf(nil, `{"image":%q}`, image))
	}
	state := release.State{Target: target, FlyApp: "shop-web", Machines: []release.Machine{
		{ID: "e1", Group: "app", State: "started", Version: "01A", Image: before, Config: config(before)},
		{ID: "e2", Group: "app", State: "started", Version: "01B", Image: before, Config: config(before)},
	}}
	spec := release.Spec{
		Target: target, FlyApp: "shop-web", Image: after, Strategy: release.Rolling, MaxUnavailable: 1,
		Groups: []release.GroupSpec{{Name: "app", Machines: map[string]release.Config{
			"e1": config(after), "e2": config(after),
		}}},
	}

	plan, err := release.NewPlan("production", "4f2d1c0b9a8e", []release.Spec{spec}, []release.State{state})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, wave := range plan.Waves {
		for _, lane := range wave.Lanes {
			fmt.Println("at most", lane.MaxConcurrent, "at a time:")
			for _, step := range lane.Steps {
				fmt.Println(" ", step)
			}
		}
	}

	// After the plan is executed, a new plan is empty.
	again, err := release.NewPlan("production", "4f2d1c0b9a8e", []release.Spec{spec}, plan.Goal([]release.State{state}))
	fmt.Println("empty:", again.IsEmpty(), err)
	// Output:
	// at most 1 at a time:
	//   update e1 of web/production
	//   update e2 of web/production
	// empty: true <nil>
}

// Workflows record events; the status is their fold, and the events can be read page by
// page.
func ExampleEventLog() {
	var log release.EventLog
	begin := time.Date(2026, 3, 9, 14, 0, 0, 0, time.UTC)
	log.Record(begin, release.WorkflowBegun(release.Begun{ID: "release/shop/4f2d1c0b9a8e", Project: "shop"}))
	log.Record(begin.Add(time.Second), release.PhaseEntered(release.Planning, "staging"))
	log.Record(begin.Add(3*time.Second), release.WorkflowEnded(release.Unchanged))

	page, err := log.Page(release.EventQuery{After: 1})
	for _, e := range page.Events {
		fmt.Println(e.Number, e.At.Format(time.TimeOnly), e.Kind)
	}
	s := log.Status()
	fmt.Println(s.Outcome, s.Spans[0].Duration(s.Ended), err)
	// Output:
	// 2 14:00:01 phase entered
	// 3 14:00:03 ended
	// unchanged 2s <nil>
}

package release_test

import (
	"testing"
	"time"

	"github.com/microbima/release/release"
)

// Any exit of a version that a rollout launches counts. One of a machine that it did
// not launch counts while it may still be in a crash loop, and one of a machine that
// it leaves as it was does not count.
func TestMissing_Exits(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	exit := func(restarts int, ago time.Duration) *release.Exit {
		return &release.Exit{Code: 3, Restarts: restarts, At: now.Add(-ago)}
	}
	back, resumed := release.ExitRule{Back: true, At: now}, release.ExitRule{Resumed: []string{"a"}, At: now}
	for name, test := range map[string]struct {
		rule  release.ExitRule
		want  *release.Exit // what the goal has
		have  *release.Exit
		state string
		bad   bool
	}{
		"launched, ended long ago":          {release.ExitRule{At: now}, nil, exit(1, time.Hour), "started", true},
		"left as it was":                    {release.ExitRule{At: now}, exit(9, time.Hour), exit(10, time.Second), "started", false},
		"back, ended once":                  {back, nil, exit(1, time.Second), "started", false},
		"back, ends again and again":        {back, nil, exit(2, time.Second), "started", true},
		"back, ended again and again":       {back, nil, exit(2, time.Hour), "started", false},
		"back, stopped":                     {back, nil, exit(1, time.Hour), "stopped", true},
		"resumed, ended before":             {resumed, exit(1, time.Minute), exit(1, time.Minute), "started", true},
		"resumed, ended long before":        {resumed, exit(2, time.Hour), exit(2, time.Hour), "started", false},
		"resumed, ended long before, again": {resumed, exit(2, time.Hour), exit(3, time.Second), "started", true},
		"resumed, stopped":                  {resumed, exit(2, time.Hour), exit(2, time.Hour), "stopped", true},
		"resumed, ended since":              {resumed, nil, exit(1, time.Hour), "started", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := release.Machine{ID: "a", State: "started", Image: images[1], Config: config("api", "app", 1), Exit: test.want}
			goal := release.State{Machines: []release.Machine{m}}
			m.State, m.Exit = test.state, test.have
			bad := goal.Missing(release.State{Machines: []release.Machine{m}}, test.rule)
			if len(bad) > 0 != test.bad {
				t.Errorf("failures %v, want some: %t", bad, test.bad)
			}
			if len(bad) > 0 && bad[0].ExitCode == nil {
				t.Errorf("%v lacks the exit code", bad)
			}
		})
	}
}

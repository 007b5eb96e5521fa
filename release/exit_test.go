package release_test

import (
	"testing"
	"time"

	"github.com/microbima/release/release"
)

// Every exit of a version that the rollout launched counts. The exit of a restored or
// resumed machine counts while the machine may be in a crash loop. The exit of an
// unchanged machine does not count.
func TestUnmet_Exits(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	exit := func(restarts int, ago time.Duration) *release.Exit {
		return &release.Exit{Code: 3, Restarts: restarts, At: now.Add(-ago)}
	}
	back, resumed := release.ExitRule{IsRestore: true, ReadAt: now}, release.ExitRule{ResumedMachines: []string{"a"}, ReadAt: now}
	for name, test := range map[string]struct {
		rule  release.ExitRule
		want  *release.Exit // what the goal has
		have  *release.Exit
		state string
		bad   bool
	}{
		"launched machine exited long ago":             {release.ExitRule{ReadAt: now}, nil, exit(1, time.Hour), "started", true},
		"unchanged machine exits":                      {release.ExitRule{ReadAt: now}, exit(9, time.Hour), exit(10, time.Second), "started", false},
		"restored machine exited once":                 {back, nil, exit(1, time.Second), "started", false},
		"restored machine is in a crash loop":          {back, nil, exit(2, time.Second), "started", true},
		"restored machine recovered from a crash loop": {back, nil, exit(2, time.Hour), "started", false},
		"restored machine exited and is stopped":       {back, nil, exit(1, time.Hour), "stopped", true},
		"resumed machine exited recently":              {resumed, exit(1, time.Minute), exit(1, time.Minute), "started", true},
		"resumed machine exited long ago":              {resumed, exit(2, time.Hour), exit(2, time.Hour), "started", false},
		"resumed machine exited long ago and again":    {resumed, exit(2, time.Hour), exit(3, time.Second), "started", true},
		"resumed machine exited and is stopped":        {resumed, exit(2, time.Hour), exit(2, time.Hour), "stopped", true},
		"resumed machine exited since":                 {resumed, nil, exit(1, time.Hour), "started", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := release.Machine{ID: "a", State: "started", Image: images[1], Config: config("api", "app", 1), Exit: test.want}
			goal := release.State{Machines: []release.Machine{m}}
			m.State, m.Exit = test.state, test.have
			bad := goal.Unmet(release.State{Machines: []release.Machine{m}}, test.rule)
			if len(bad) > 0 != test.bad {
				t.Errorf("failures %v, want some: %t", bad, test.bad)
			}
			if len(bad) > 0 && bad[0].ExitCode == nil {
				t.Errorf("%v lacks the exit code", bad)
			}
		})
	}
}

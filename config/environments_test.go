package config

import (
	"testing"

	"github.com/microbima/release/release"
)

// machines = 1 is for apps that must not run twice, like a cron job.
func TestSpec_MachinesOfFirstRollout(t *testing.T) {
	const service, worker = "[http_service]\ninternal_port = 8080\n", ""
	for _, tc := range []struct {
		machines        int
		toml            string
		want, standbies int
	}{
		{0, service, 2, 0}, {2, service, 2, 0}, {1, service, 1, 0},
		{0, worker, 2, 1}, {2, worker, 2, 1}, {1, worker, 1, 0},
	} {
		p, target := project(t, "", tc.toml)
		for i := range p.Apps {
			p.Apps[i].Machines = tc.machines
		}
		s, err := Spec(p, target, v1, release.State{Target: target.Target})
		if err != nil {
			t.Fatal(err)
		}
		standbies := 0
		for _, m := range s.Groups[0].New {
			if m.Standby {
				standbies++
			}
		}
		if len(s.Groups[0].New) != tc.want || standbies != tc.standbies {
			t.Errorf("machines = %d, %q: %d machines, %d of them standbies; want %d and %d", tc.machines, tc.toml, len(s.Groups[0].New), standbies, tc.want, tc.standbies)
		}
	}
}

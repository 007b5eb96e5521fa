package config

import (
	"testing"

	"github.com/microbima/release/release"
)

// One machine on purpose: a second would, for instance, run a cron job twice.
func TestSpec_MachinesOfAFirstRollout(t *testing.T) {
	const serves, works = "[http_service]\ninternal_port = 8080\n", ""
	for _, tc := range []struct {
		machines        int
		toml            string
		want, standbies int
	}{
		{0, serves, 2, 0}, {2, serves, 2, 0}, {1, serves, 1, 0},
		{0, works, 2, 1}, {2, works, 2, 1}, {1, works, 1, 0},
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

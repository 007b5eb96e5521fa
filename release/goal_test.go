package release_test

import (
	"testing"

	"github.com/microbima/release/release"
)

// The state of a machine on an unreachable host is unknown: neither a failure nor healthy.
func TestUnmet_UnreachableHost(t *testing.T) {
	goal := release.State{Machines: []release.Machine{{ID: "a", State: "started", Image: images[1], Config: config("api", "app", 1)}}}
	now := release.State{Machines: []release.Machine{{ID: "a", State: "started", Image: images[0], Host: "unreachable"}}}
	if bad := goal.Missing(now, release.ExitRule{}); len(bad) > 0 {
		t.Errorf("reported as failed: %v", bad)
	}
	if unknown := goal.Unseen(now); len(unknown) != 1 {
		t.Errorf("reported as healthy: %v", unknown)
	}
	now.Machines[0].Host = ""
	if bad, unknown := goal.Missing(now, release.ExitRule{}), goal.Unseen(now); len(bad) != 1 || len(unknown) > 0 {
		t.Errorf("with a reachable host: failures %v, unknown %v; want one failure, for its image", bad, unknown)
	}
}

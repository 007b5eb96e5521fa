package release_test

import (
	"testing"

	"github.com/microbima/release/release"
)

// A machine whose host can't be reached is neither good nor bad.
func TestAnUnreachableHostIsUnknown(t *testing.T) {
	goal := release.State{Machines: []release.Machine{{ID: "a", State: "started", Image: images[1], Config: config("api", "app", 1)}}}
	now := release.State{Machines: []release.Machine{{ID: "a", State: "started", Image: images[0], Host: "unreachable"}}}
	if bad := goal.Missing(now, release.ExitRule{}); len(bad) > 0 {
		t.Errorf("called bad: %v", bad)
	}
	if unknown := goal.Unseen(now); len(unknown) != 1 {
		t.Errorf("called good: %v", unknown)
	}
	now.Machines[0].Host = ""
	if bad, unknown := goal.Missing(now, release.ExitRule{}), goal.Unseen(now); len(bad) != 1 || len(unknown) > 0 {
		t.Errorf("with its host back it is bad, for its image: %v %v", bad, unknown)
	}
}

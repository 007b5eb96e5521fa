package cli

import (
	"testing"

	"github.com/microbima/release/release"
)

func TestCodeOfOutcome(t *testing.T) {
	for want, outcomes := range map[int][]release.Outcome{
		0: {release.Promoted, release.Unchanged}, 1: {release.Stopped}, 3: {release.RolledBack}, 5: {release.Kept, ""},
	} {
		for _, o := range outcomes {
			if got := codeOfOutcome(o); got != want {
				t.Errorf("%q is exit code %d, want %d", o, got, want)
			}
		}
	}
}

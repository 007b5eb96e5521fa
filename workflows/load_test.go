package workflows_test

import (
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

// However a release was started, nothing is tested or built of pointers of Git LFS
// or without a submodule. A rollback builds nothing and is not kept back.
func TestLoad_LFSPointer(t *testing.T) {
	lacks := repo{leftOut: []release.LeftOut{{Path: "web/logo.png", What: "a Git LFS pointer"}, {Path: "themes/dark", What: "a submodule"}}}
	bubble(t, func(t *testing.T) {
		s := newScenario(t, lacks)
		rep := s.run()
		if rep.Outcome != release.Stopped || len(rep.Tests)+len(rep.Builds) > 0 {
			t.Errorf("%s; tests %v, builds %v", rep.Outcome, rep.Tests, rep.Builds)
		}
		for _, want := range []string{"web/logo.png: is a Git LFS pointer", "themes/dark: is a submodule"} {
			if rep.Cause == nil || !strings.Contains(rep.Cause.Message, want) {
				t.Errorf("%q is not in %+v", want, rep.Cause)
			}
		}
	})
	bubble(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.runs("v1")
		newer := s.on("v3")
		newer.whenAsked(newer.approve)
		newer.mustEnd(release.Promoted)
		back := newer.on("v3")
		back.act.Git = lacks
		back.req.Rollback = &release.Rollback{Environment: "staging", Reason: "checkout is down"}
		back.endPins()
		back.mustEnd(release.Restored)
	})
}

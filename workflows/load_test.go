package workflows_test

import (
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

// A revision with Git LFS pointers or a missing submodule is neither tested nor built.
// A rollback builds nothing, so it is not refused.
func TestLoad_LFSPointer(t *testing.T) {
	lacks := repo{leftOut: []release.OmittedFile{{Path: "web/logo.png", Placeholder: "a Git LFS pointer"}, {Path: "themes/dark", Placeholder: "a submodule"}}}
	inVirtualTime(t, func(t *testing.T) {
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
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		newer := s.nextRelease("v3")
		newer.onApproval(newer.approve)
		newer.runTo(release.Promoted)
		back := newer.nextRelease("v3")
		back.act.Git = lacks
		back.req.Rollback = &release.Rollback{Environment: "staging", Reason: "checkout is down"}
		back.endPins()
		back.runTo(release.Restored)
	})
}

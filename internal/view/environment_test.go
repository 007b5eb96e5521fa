package view_test

import (
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// The view shows what a rollback restores, and which facts are unknown.
func TestEnvironmentText(t *testing.T) {
	at := time.Date(2026, 3, 9, 14, 0, 0, 0, time.UTC)
	two := release.RestoredRevision{Revision: release.Revision{Commit: "41c2f0e0000000000000", Subject: "two"}}
	one := two
	one.Lineage = release.Lineage{Running: []string{"a"}, RemovedCount: 1}
	lost := two
	lost.Lineage = release.Lineage{Why: "no such commit"}
	image := release.Image("registry.fly.io/shop-api@sha256:0123456789abcdef")
	for name, c := range map[string]struct {
		env  view.Environment
		want []string
	}{
		"all facts are known": {
			env: view.Environment{Rollback: view.Rollback{Target: &one, Description: "as it was before release/shop/x", Until: at, Retention: release.Duration(72 * time.Hour), Images: []view.ImageAvailability{{App: "api", Image: image, Exists: true}}}},
			want: []string{"back to 41c2f0e00000 two, 1 commit taken away\n", "as it was before release/shop/x\n",
				"image of api sha256:0123456789ab: exists\n", "recorded in the history until 2026-03-09 14:00 UTC (closed rollouts are kept for 3 days)\n"},
		},
		"no fact is known": {
			env: view.Environment{PinUnknown: "no answer", Rollback: view.Rollback{Target: &lost, NoUntil: "permission denied", Images: []view.ImageAvailability{{App: "api", Image: image, Unknown: "unauthorized"}}}},
			want: []string{"unknown whether it is pinned: no answer\n", "it is not known how many commits are taken away: no such commit\n",
				"unknown whether it still exists: unauthorized\n", "unknown how long the history records it: permission denied\n"},
		},
		"an image is gone": {
			env:  view.Environment{Rollback: view.Rollback{Target: &two, Images: []view.ImageAvailability{{App: "api", Image: image}}}},
			want: []string{"missing from its registry", "recorded in the history without a time limit\n"},
		},
		"refused":                        {env: view.Environment{Rollback: view.Rollback{Refused: "nothing ran before"}}, want: []string{"refused: nothing ran before\n"}},
		"Temporal is unreachable":        {env: view.Environment{Rollback: view.Rollback{Unknown: "no answer"}}, want: []string{"unknown: no answer\n"}},
		"a rollout is open":              {env: view.Environment{Rollback: view.Rollback{Busy: true}}, want: []string{"unknown until the open rollout has ended"}},
		"control characters are escaped": {env: view.Environment{Rollback: view.Rollback{Refused: "x\x1b[2Jy"}}, want: []string{`x\x1b[2Jy`}},
		"pinned": {
			env:  view.Environment{Pin: &release.Pin{Environment: "production", By: "dora", Reason: "checkout is down", Since: at, Revision: two.Revision}},
			want: []string{"production is pinned since 2026-03-09 14:00 UTC: rolled back to 41c2f0e00000 two by dora (checkout is down)\n", "To let releases change it again: release unpin production --reason …\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.env.Name = "production"
			text := view.EnvironmentText(c.env, at, view.Style{Width: 200})
			for _, s := range c.want {
				if !strings.Contains(text, s) {
					t.Errorf("missing %q:\n%s", s, text)
				}
			}
		})
	}
}

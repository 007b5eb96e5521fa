package view_test

import (
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// What a rollback goes back to is told, and what of it is not known.
func TestEnvironmentText(t *testing.T) {
	at := time.Date(2026, 3, 9, 14, 0, 0, 0, time.UTC)
	two := release.RestoredRevision{Revision: release.Revision{Commit: "41c2f0e0000000000000", Subject: "two"}}
	one := two
	one.Lineage = release.Lineage{Running: []string{"a"}, Takes: 1}
	lost := two
	lost.Lineage = release.Lineage{Why: "no such commit"}
	image := release.Image("registry.fly.io/shop-api@sha256:0123456789abcdef")
	for name, c := range map[string]struct {
		env  view.Environment
		says []string
	}{
		"all is known": {
			env: view.Environment{Rollback: view.Back{Target: &one, Said: "as it was before release/shop/x", Until: at, Kept: release.Duration(72 * time.Hour), Images: []view.ImageThere{{App: "api", Image: image, There: true}}}},
			says: []string{"back to 41c2f0e00000 two, 1 commit taken away\n", "as it was before release/shop/x\n",
				"image of api sha256:0123456789ab: exists\n", "history tells of it until 2026-03-09 14:00 UTC (closed rollouts are kept for 3 days)\n"},
		},
		"nothing is known": {
			env: view.Environment{PinUnknown: "no answer", Rollback: view.Back{Target: &lost, NoUntil: "permission denied", Images: []view.ImageThere{{App: "api", Image: image, Unknown: "unauthorized"}}}},
			says: []string{"whether it is pinned is not known: no answer\n", "it is not known how many commits are taken away: no such commit\n",
				"not known whether it still exists: unauthorized\n", "until when history tells of it is not known: permission denied\n"},
		},
		"an image is gone": {
			env:  view.Environment{Rollback: view.Back{Target: &two, Images: []view.ImageThere{{App: "api", Image: image}}}},
			says: []string{"its registry does not have it any more", "history tells of it without a limit\n"},
		},
		"refused":              {env: view.Environment{Rollback: view.Back{Refused: "nothing ran before"}}, says: []string{"refused: nothing ran before\n"}},
		"Temporal is away":     {env: view.Environment{Rollback: view.Back{Unknown: "no answer"}}, says: []string{"not known: no answer\n"}},
		"a rollout is open":    {env: view.Environment{Rollback: view.Back{Busy: true}}, says: []string{"a rollout is open"}},
		"hostile text is text": {env: view.Environment{Rollback: view.Back{Refused: "x\x1b[2Jy"}}, says: []string{`x\x1b[2Jy`}},
		"pinned": {
			env:  view.Environment{Pin: &release.Pin{Environment: "production", By: "dora", Reason: "checkout is down", Since: at, Revision: two.Revision}},
			says: []string{"production is pinned since 2026-03-09 14:00 UTC: rolled back to 41c2f0e00000 two by dora (checkout is down)\n", "release unpin production --reason … lets releases change it again\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.env.Name = "production"
			text := view.EnvironmentText(c.env, at, view.Style{Width: 200})
			for _, s := range c.says {
				if !strings.Contains(text, s) {
					t.Errorf("it does not say %q:\n%s", s, text)
				}
			}
		})
	}
}

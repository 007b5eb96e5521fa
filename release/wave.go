package release

import (
	"slices"
	"strings"
)

// A Wave is a list of steps that run together. The next wave starts when every step
// is done and Settle has passed.
type Wave struct {
	Title  string   `json:"title"`
	Lanes  []Lane   `json:"lanes"`
	Settle Duration `json:"settle,omitempty"`
	// Irreversible is true for waves that cannot be rolled back. They run after the
	// environment is verified and baked.
	Irreversible bool `json:"irreversible,omitempty"`
	// VerifyWhileSettling is true if the environment is verified repeatedly while the
	// wave settles, as for a canary.
	VerifyWhileSettling bool `json:"verify_while_settling,omitempty"`
}

// A Lane is the steps of a wave in one group of one target, with a concurrency limit.
type Lane struct {
	MaxConcurrent int    `json:"max_concurrent"` // maximum number of concurrent steps, 1 or more
	Steps         []Step `json:"steps"`
}

// WithoutRemovals returns w without the cordon, stop and destroy steps of the given
// targets.
func (w Wave) WithoutRemovals(targets map[Target]bool) Wave {
	lanes := w.Lanes
	w.Lanes = nil
	for _, l := range lanes {
		l.Steps = slices.DeleteFunc(slices.Clone(l.Steps), func(s Step) bool {
			return targets[s.Target] && (s.Verb == Cordon || s.Verb == Stop || s.Verb == Destroy)
		})
		if len(l.Steps) > 0 {
			w.Lanes = append(w.Lanes, l)
		}
	}
	return w
}

// newWave returns one wave with one lane, or nil without steps.
func newWave(title string, steps []Step, atOnce int) []Wave {
	if len(steps) == 0 {
		return nil
	}
	return []Wave{{Title: title, Lanes: []Lane{{MaxConcurrent: max(1, atOnce), Steps: steps}}}}
}

func withSettle(ws []Wave, d Duration) []Wave {
	for i := range ws {
		ws[i].Settle = d
	}
	return ws
}

func markIrreversible(ws []Wave) []Wave {
	for i := range ws {
		ws[i].Irreversible = true
	}
	return ws
}

// mergeWaves merges two lists of waves by position, for targets that do not need each
// other: the first waves of both become one wave, and so on.
func mergeWaves(a, b []Wave) []Wave {
	for i, w := range b {
		if i == len(a) {
			return append(a, b[i:]...)
		}
		a[i].Lanes = append(a[i].Lanes, w.Lanes...)
		a[i].Settle = max(a[i].Settle, w.Settle)
		a[i].VerifyWhileSettling = a[i].VerifyWhileSettling || w.VerifyWhileSettling
		a[i].Title = joinTitles(a[i].Title, w.Title)
	}
	return a
}

// joinTitles returns the titles of a and b, each once.
func joinTitles(a, b string) string {
	titles := strings.Split(a, ", ")
	for _, title := range strings.Split(b, ", ") {
		if !slices.Contains(titles, title) {
			titles = append(titles, title)
		}
	}
	return strings.Join(titles, ", ")
}

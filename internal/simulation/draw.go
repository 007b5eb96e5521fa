package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/microbima/release/release"
)

// Draw returns the Case of a seed. Most cases are small, because most bugs need only a
// small one.
func Draw(seed uint64) Case {
	r := rand.New(rand.NewPCG(seed, 0x5eed))
	c := Case{Seed: seed, Poll: drawDuration(r, 2*time.Second, 8*time.Second), Limits: drawBool(r, 10)}
	c.Environments = drawEnvironments(r)
	for i := range drawWeighted(r, []int{56, 25, 10, 4, 3, 2}) + 1 {
		c.Apps = append(c.Apps, drawApp(r, i, c.Apps))
	}
	drawReleases(r, &c)
	if drawBool(r, 30) {
		for range 1 + r.IntN(3) {
			c.Answers = append(c.Answers, drawFrom(r, []release.Choice{release.ChoiceRetry, release.ChoiceRollback, release.ChoiceRollback, release.ChoiceKeep, release.ChoiceAbandon}))
		}
	}
	c.Repeats = drawBool(r, 50)
	for range drawWeighted(r, []int{15, 30, 25, 18, 8, 4}) {
		c.Troubles = append(c.Troubles, drawTrouble(r, c))
	}
	if i := slices.IndexFunc(c.Troubles, func(t Trouble) bool { return t.Kind == terminated }); i >= 0 {
		worsenTermination(r, &c, &c.Troubles[i])
	}
	return c
}

// drawReleases draws the releases of c.
func drawReleases(r *rand.Rand, c *Case) {
	c.Releases = []Order{drawOrder(r, *c, "v2")}
	switch {
	case drawBool(r, 10):
		o := drawOrder(r, *c, "v3")
		o.At = drawDuration(r, time.Second, 2*time.Minute)
		c.Releases = append(c.Releases, o)
	case drawBool(r, 8): // an older push after a newer one
		o := drawOrder(r, *c, "v2")
		c.Releases[0] = drawOrder(r, *c, "v3")
		o.At = drawDuration(r, time.Millisecond, time.Minute)
		c.Releases = append(c.Releases, o)
	case drawBool(r, 9):
		addRevertedPushes(r, c)
	case drawBool(r, 4): // three pushes in a row
		for _, v := range []string{"v3", "v4"} {
			o := drawOrder(r, *c, v)
			o.At = c.Releases[len(c.Releases)-1].At + drawDuration(r, time.Second, time.Minute)
			c.Releases = append(c.Releases, o)
		}
	case drawBool(r, 8):
		addRollback(r, c)
	}
}

// addRollback adds a rollback that an operator starts, and sometimes a second one.
func addRollback(r *rand.Rand, c *Case) {
	o := drawOrder(r, *c, "v2")
	o.At, o.Rollback = drawDuration(r, time.Minute, 10*time.Minute), true
	if drawBool(r, 40) { // a second release before the rollback
		newer := drawOrder(r, *c, "v3")
		newer.At = drawDuration(r, time.Minute, 5*time.Minute)
		c.Releases = append(c.Releases, newer)
		o.At += newer.At
	}
	c.Releases = append(c.Releases, o)
	if drawBool(r, 50) { // a second rollback
		o.At += drawDuration(r, time.Second, 5*time.Minute)
		c.Releases = append(c.Releases, o)
	}
}

// addRevertedPushes adds two pushes. In most apps v4 has the content of v2, and v3
// starts at about the same time as v4.
func addRevertedPushes(r *rand.Rand, c *Case) {
	for i := range c.Apps {
		if drawBool(r, 90) {
			c.Apps[i].Like = map[string]string{"v4": "v2"}
		}
	}
	newest, older := drawOrder(r, *c, "v4"), drawOrder(r, *c, "v3")
	newest.At = drawDuration(r, time.Minute, 4*time.Minute)
	older.At = newest.At + drawDuration(r, -20*time.Second, time.Minute)
	c.Releases = append(c.Releases, newest, older)
}

// worsenTermination makes some terminations harder to recover from. The history is
// lost, the takeover is terminated too, the rollout is terminated while it verifies
// stopped machines, or the checks of the new version fail later.
func worsenTermination(r *rand.Rand, c *Case, t *Trouble) {
	switch app := &c.Apps[r.IntN(len(c.Apps))]; {
	case drawBool(r, 10): // the history is lost
		c.Troubles = append(c.Troubles, Trouble{Kind: historyLost})
		for i := range c.Releases {
			if len(c.Releases[i].Reviews) == 0 {
				c.Releases[i].Reviews = []Review{{After: drawDuration(r, 5*time.Second, 30*time.Second), By: "ben"}}
			}
		}
	case drawBool(r, 20): // the rollout that takes over is terminated too
		again := *t
		again.In, again.At, again.After = release.HeldPhase, drawDuration(r, time.Millisecond, 40*time.Second), false
		c.Troubles = append(c.Troubles, again)
	case drawBool(r, 40) && app.Groups[0].Service:
		app.AutoStop = false // else the proxy starts and stops machines too
		for i := range app.Groups[0].Machines {
			app.Groups[0].Machines[i] = InitialMachine{State: "stopped"}
		}
		t.In, t.At = drawFrom(r, []release.Phase{release.Verifying, release.Verifying, release.Baking}), drawDuration(r, time.Millisecond, 4*time.Second)
	case drawBool(r, 65):
		c.Troubles = append(c.Troubles, Trouble{Kind: "checks fail after an update", Route: "update", Skip: r.IntN(2), Times: 1 + r.IntN(3), For: drawDuration(r, 20*time.Second, 80*time.Second)})
	}
}

// drawBool returns true with the given probability in percent.
func drawBool(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }

// drawWeighted draws an index of weights, with a probability in proportion to its
// weight.
func drawWeighted(r *rand.Rand, weights []int) int {
	all := 0
	for _, w := range weights {
		all += w
	}
	n := r.IntN(all)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	return len(weights) - 1
}

// drawEnvironments draws production, and sometimes staging before it.
func drawEnvironments(r *rand.Rand) []Environment {
	all := []Environment{{Name: "production"}}
	if drawBool(r, 25) {
		all = []Environment{{Name: "staging"}, {Name: "production"}}
	}
	for i := range all {
		e := &all[i]
		if drawBool(r, 50) {
			e.Bake = Duration(time.Duration(5+r.IntN(40)) * time.Second)
		}
		if drawBool(r, 50) {
			e.Canary = Duration(time.Duration(5+r.IntN(25)) * time.Second)
		}
		if e.Name == "production" && drawBool(r, 60) {
			e.Approvals = 1 + drawWeighted(r, []int{80, 20})
		}
		e.Irreversible, e.Empty = drawBool(r, 15), drawBool(r, 6)
	}
	return all
}

// drawApp draws app i, which may need the apps before it.
func drawApp(r *rand.Rand, i int, before []App) App {
	a := App{
		Name: fmt.Sprintf("%c", 'a'+i), Strategy: drawFrom(r, []release.Strategy{release.Rolling, release.Rolling, release.Canary, release.BlueGreen, release.Immediate}),
		MaxDown: drawFrom(r, []string{"0.33", "0.33", "0.5", "1", "2", "0.1"}), Command: drawBool(r, 20), Still: drawBool(r, 15), Secret: drawBool(r, 15), AutoStop: drawBool(r, 15),
	}
	for _, b := range before {
		if drawBool(r, 30) {
			a.Needs = append(a.Needs, b.Name)
		}
	}
	names := []string{"app"}
	if drawBool(r, 25) {
		names = []string{"web", "worker"}
	}
	for j, name := range names {
		a.Groups = append(a.Groups, drawGroup(r, a, j, name))
	}
	return a
}

// drawGroup draws group j of a.
func drawGroup(r *rand.Rand, a App, j int, name string) Group {
	g := Group{Name: name, Service: j == 0 && drawBool(r, 80), Checks: drawWeighted(r, []int{70, 25, 5})}
	if a.Strategy == release.BlueGreen && !g.Service {
		g.Checks = max(1, g.Checks) // bluegreen requires a check
	}
	g.Volume = a.Strategy != release.BlueGreen && a.Strategy != release.Canary && drawBool(r, 12)
	g.Standby = !g.Service && !g.Volume && drawBool(r, 50)
	machines := drawGroupSize(r)
	if j > 0 && !g.Volume && drawBool(r, 6) {
		machines = 0 // the group was scaled to zero
	}
	for range machines {
		g.Machines = append(g.Machines, drawMachine(r))
	}
	if g.Service && a.AutoStop && drawBool(r, 25) { // Fly's proxy has stopped all machines
		for i := range g.Machines {
			g.Machines[i] = InitialMachine{State: "stopped"}
		}
	}
	return g
}

// drawMachine draws a machine as it is before the first release.
func drawMachine(r *rand.Rand) InitialMachine {
	initial := InitialMachine{State: "started"}
	if drawBool(r, 8) {
		initial.State = "stopped"
	}
	initial.Crashed = initial.State == "stopped" && drawBool(r, 30)
	initial.Cordoned = drawBool(r, 3)
	initial.Failing = initial.State == "started" && drawBool(r, 2)
	return initial
}

// drawGroupSize draws the number of machines of a group: 1 to 40.
func drawGroupSize(r *rand.Rand) int {
	switch drawWeighted(r, []int{420, 370, 125, 68, 14, 3}) {
	case 0:
		return 1
	case 1:
		return 2
	case 2:
		return 3
	case 3:
		return 4 + r.IntN(4)
	case 4:
		return 8 + r.IntN(12)
	}
	return 20 + r.IntN(21)
}

// drawOrder draws the order of a version, with its reviews and sometimes an abort.
func drawOrder(r *rand.Rand, c Case, version string) Order {
	o := Order{Version: version}
	if len(c.Apps) > 1 && drawBool(r, 8) {
		o.Apps = []string{drawFrom(r, c.Apps).Name}
	}
	if drawBool(r, 12) {
		o.AbortIn = string(drawFrom(r, troublePhases))
		o.Abort = Duration(time.Duration(1+drawSkewed(r, 30_000)) * time.Millisecond)
	}
	most := 0
	for _, e := range c.Environments {
		most = max(most, e.Approvals)
	}
	if most == 0 {
		return o
	}
	for i := range most {
		o.Reviews = append(o.Reviews, Review{After: drawDuration(r, time.Duration(5+20*i)*time.Second, time.Duration(15+20*i)*time.Second), By: []string{"ben", "cas"}[i], Signal: drawBool(r, 30)})
	}
	if drawBool(r, 25) {
		for range 1 + r.IntN(3) {
			o.Reviews = append(o.Reviews, drawInvalidReview(r))
		}
		slices.SortStableFunc(o.Reviews, func(a, b Review) int { return int(a.After - b.After) })
	}
	if drawBool(r, 8) { // a rejection before there are enough approvals
		at := drawDuration(r, time.Second, max(2*time.Second, time.Duration(o.Reviews[0].After)))
		o.Reviews = append(o.Reviews, Review{After: at, Reject: true, By: "eve", Signal: drawBool(r, 30)})
		slices.SortStableFunc(o.Reviews, func(a, b Review) int { return int(a.After - b.After) })
	}
	if drawBool(r, 5) { // too late, or never in time
		for i := range o.Reviews {
			o.Reviews[i].After += drawFrom(r, []Duration{gateTimeout, gateTimeout / 2})
		}
	}
	return o
}

// drawInvalidReview draws a review that does not count, or a rejection.
func drawInvalidReview(r *rand.Rand) Review {
	d := Review{After: drawDuration(r, time.Second, time.Minute), By: "eve", Signal: drawBool(r, 50)}
	switch r.IntN(7) {
	case 0:
		d.Plan = "other"
	case 1:
		d.Plan = "none"
	case 2:
		d.By = drawFrom(r, []string{"", "  "})
	case 3:
		d.Early = true
	case 4:
		d.By = "ben" // ben approves a second time
	case 5:
		d.Raw = drawFrom(r, []string{`{`, `null`, `{"by": 7}`, `[]`, `{"approve": true}`, `"yes"`})
	case 6:
		d.Plan = drawFrom(r, []string{"short", "former"})
	}
	if drawBool(r, 15) {
		d.Reject = true
	}
	return d
}

// drawTrouble draws a trouble of a kind, with a probability by the kind's weight.
func drawTrouble(r *rand.Rand, c Case) Trouble {
	weights := make([]int, len(troubleKinds))
	for i, k := range troubleKinds {
		weights[i] = k.weight
	}
	k := troubleKinds[drawWeighted(r, weights)]
	t := Trouble{Kind: k.name}
	k.draw(r, c, &t)
	return t
}

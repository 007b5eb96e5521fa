package simulation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// routePatterns maps short names to the requests that trouble may affect.
var routePatterns = map[string]string{
	"create":         "POST /v1/apps/{app}/machines",
	"update":         "POST /v1/apps/{app}/machines/{id}",
	"list":           "GET /v1/apps/{app}/machines",
	"get":            "GET /v1/apps/{app}/machines/{id}",
	"wait":           "GET /v1/apps/{app}/machines/{id}/wait",
	"start":          "POST /v1/apps/{app}/machines/{id}/start",
	"stop":           "POST /v1/apps/{app}/machines/{id}/stop",
	"cordon":         "POST /v1/apps/{app}/machines/{id}/cordon",
	"uncordon":       "POST /v1/apps/{app}/machines/{id}/uncordon",
	"destroy":        "DELETE /v1/apps/{app}/machines/{id}",
	"take lease":     "POST /v1/apps/{app}/machines/{id}/lease",
	"drop lease":     "DELETE /v1/apps/{app}/machines/{id}/lease",
	"read lease":     "GET /v1/apps/{app}/machines/{id}/lease",
	"app":            "GET /v1/apps/{app}",
	"secrets":        "GET /v1/apps/{app}/secrets",
	"volumes":        "GET /v1/apps/{app}/volumes",
	"new volume":     "POST /v1/apps/{app}/volumes",
	"addresses":      "GET /v1/apps/{app}/ip_assignments",
	"graphql":        "POST /graphql",
	"create release": "POST /api/v1/releases",
	"update release": "PATCH /api/v1/releases/{release}",
	"logs":           "GET /api/v1/apps/{app}/logs",
	"any":            "",
}

// routeNames are keys of routePatterns. A name that occurs more often is drawn more
// often.
var routeNames = []string{
	"create", "create", "update", "update", "update", "update", "list", "list", "get", "get", "get", "wait", "start", "start", "stop", "cordon", "uncordon",
	"destroy", "destroy", "take lease", "take lease", "drop lease", "read lease", "app", "secrets", "volumes", "new volume", "addresses", "graphql",
	"create release", "create release", "update release", "update release", "logs", "any", "any",
}

var changingRoutes = []string{"create", "update", "update", "start", "stop", "cordon", "uncordon", "destroy", "take lease", "create release"}

// troublePhases are the phases in which timed trouble begins. A phase that occurs more
// often is drawn more often.
var troublePhases = []release.Phase{
	release.Loading, release.Planning, release.AwaitingApproval, release.RollingOut, release.RollingOut, release.RollingOut, release.Verifying, release.Baking,
	release.CleaningUp, release.RollingBack, release.RollingBack,
}

// drawOnRequest returns a function that draws the requests that a trouble affects, out
// of the named ones.
func drawOnRequest(names []string) func(*rand.Rand, Case, *Trouble) {
	return func(r *rand.Rand, c Case, t *Trouble) {
		t.Route, t.Skip, t.Times = drawFrom(r, names), drawSkewed(r, 12), 1+r.IntN(3)
		if r.IntN(2) == 0 {
			t.App = drawFlyApp(r, c)
		}
	}
}

// drawSkewed draws a number less than n. Small numbers are more likely.
func drawSkewed(r *rand.Rand, n int) int { return r.IntN(r.IntN(n) + 1) }

// drawTiming draws the app, the machine and the time of a trouble.
func drawTiming(r *rand.Rand, c Case, t *Trouble) {
	t.App, t.Machine = drawFlyApp(r, c), r.IntN(8)
	t.In = drawFrom(r, troublePhases)
	t.At = Duration(time.Duration(drawSkewed(r, 40_000)) * time.Millisecond)
}

// drawRolloutTiming draws app, machine and time like drawTiming, but mostly a time at
// which machines are changed.
func drawRolloutTiming(r *rand.Rand, c Case, t *Trouble) {
	drawTiming(r, c, t)
	if drawBool(r, 60) {
		t.In, t.At = release.RollingOut, drawDuration(r, time.Millisecond, 12*time.Second)
	}
}

// drawFlyApp draws a Fly app of the case.
func drawFlyApp(r *rand.Rand, c Case) string {
	return flyAppOf(drawFrom(r, c.Environments).Name, drawFrom(r, c.Apps).Name)
}

// drawFrom draws an element.
func drawFrom[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// drawDuration draws a duration from a range, in milliseconds.
func drawDuration(r *rand.Rand, from, to time.Duration) Duration {
	return Duration((from + time.Duration(r.Int64N(int64(to-from)))).Round(time.Millisecond))
}

// injectFault returns a function that injects the fault into flysim.
func injectFault(f func(Trouble) flysim.Fault) func(*simulation, Trouble) {
	return func(s *simulation, t Trouble) {
		fault := f(t)
		fault.Route, fault.App, fault.Skip, fault.Times = routePatterns[t.Route], t.App, t.Skip, t.Times
		fault.Delay, fault.Output = time.Duration(t.Delay), s.hostileOutput()
		s.fly.Inject(fault)
	}
}

// injectEffect returns a function that injects a fault with that effect into flysim.
func injectEffect(e flysim.Effect) func(*simulation, Trouble) {
	return injectFault(func(t Trouble) flysim.Fault { return flysim.Fault{Effect: e, For: time.Duration(t.For), Exit: 3} })
}

// versionFault returns a kind of trouble that affects the version that an update or a
// create makes.
func versionFault(name string, e flysim.Effect, weight int, long time.Duration) troubleKind {
	return troubleKind{name: name, weight: weight, isLasting: true, begin: injectEffect(e), draw: func(r *rand.Rand, c Case, t *Trouble) {
		drawOnRequest([]string{"update", "update", "create"})(r, c, t)
		if long > 0 {
			t.For = drawDuration(r, 0, long)
		}
	}}
}

// troubleKinds lists all kinds of trouble. Their order determines what a seed draws.
var troubleKinds = []troubleKind{
	{name: "error instead of an answer", weight: 8, isTransient: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest(routeNames)(r, c, t)
			t.Status = drawFrom(r, []int{408, 429, 500, 502, 503, 504})
		},
		begin: injectFault(func(t Trouble) flysim.Fault { return flysim.Fault{Status: t.Status} })},
	{name: "done, but the answer is an error", weight: 8, isTransient: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest(routeNames)(r, c, t)
			t.Status = drawFrom(r, []int{408, 500, 502, 504})
		},
		begin: injectFault(func(t Trouble) flysim.Fault { return flysim.Fault{Status: t.Status, After: true} })},
	{name: "connection reset", weight: 8, isTransient: true,
		draw:  func(r *rand.Rand, c Case, t *Trouble) { drawOnRequest(routeNames)(r, c, t); t.After = r.IntN(2) == 0 },
		begin: injectFault(func(t Trouble) flysim.Fault { return flysim.Fault{Drop: true, After: t.After} })},
	{name: "answer cut in the middle", weight: 4, isTransient: true,
		draw: drawOnRequest(routeNames),
		begin: injectFault(func(Trouble) flysim.Fault {
			return flysim.Fault{Status: http.StatusOK, Body: `{"id": "148`, After: true}
		})},
	{name: "rate limited", weight: 3, isTransient: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest(routeNames)(r, c, t)
			t.For = Duration(time.Duration(1+r.IntN(9)) * time.Second)
		},
		begin: injectFault(func(t Trouble) flysim.Fault {
			return flysim.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {fmt.Sprint(int(time.Duration(t.For).Seconds()))}}}
		})},
	{name: "slow", weight: 4, isTransient: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest(routeNames)(r, c, t)
			t.Delay, t.After = drawDuration(r, time.Second, 6*time.Second), r.IntN(2) == 0
		},
		begin: injectFault(func(t Trouble) flysim.Fault { return flysim.Fault{After: t.After} })},
	{name: "hanging", weight: 4,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest(routeNames)(r, c, t)
			t.Delay, t.After, t.Times = drawDuration(r, 30*time.Second, 10*time.Minute), r.IntN(2) == 0, 1+r.IntN(2)
		},
		begin: injectFault(func(t Trouble) flysim.Fault { return flysim.Fault{After: t.After} })},
	{name: "refused", weight: 4,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest(slices.DeleteFunc(slices.Clone(routeNames), func(name string) bool { return name == "drop lease" }))(r, c, t)
			t.Status, t.Times = drawFrom(r, []int{400, 401, 403, 404, 409, 412, 422}), 1
		},
		begin: injectFault(func(t Trouble) flysim.Fault { return flysim.Fault{Status: t.Status} })},
	{name: "not found just after create", weight: 3, isTransient: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest([]string{"create"})(r, c, t)
			t.For = drawDuration(r, 0, 3*time.Second)
		},
		begin: injectEffect(flysim.NotYet)},
	{name: "stale read", weight: 4, isTransient: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest([]string{"get", "list"})(r, c, t)
			t.Times = 1 + r.IntN(2)
		},
		begin: injectEffect(flysim.Stale)},
	{name: "stale list", weight: 4,
		draw: func(r *rand.Rand, c Case, t *Trouble) { drawTiming(r, c, t); t.Times = 1 + r.IntN(3) },
		begin: func(s *simulation, t Trouble) {
			s.network.recordLists(t.App)
			s.scheduleTrouble(t, func() { s.network.repeatList(t.App, t.Times) })
		}},
	{name: "Fly unreachable", weight: 4,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawTiming(r, c, t)
			if r.IntN(2) == 0 {
				t.App = ""
			}
			t.For = drawDuration(r, 5*time.Second, drawFrom(r, []time.Duration{time.Minute, 10 * time.Minute, 65 * time.Minute, 150 * time.Minute}))
			t.Status = drawFrom(r, []int{0, 500, 503, 408})
		},
		begin: func(s *simulation, t Trouble) {
			s.scheduleTrouble(t, func() {
				s.network.addOutage(outage{until: time.Now().Add(time.Duration(t.For)), app: t.App, status: t.Status})
			})
		}},

	{name: "lease lost", weight: 3, draw: drawOnRequest(changingRoutes[:8]), begin: injectEffect(flysim.LeaseLost)},
	{name: "lease stolen", weight: 3,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest(changingRoutes[:8])(r, c, t)
			t.For = drawDuration(r, time.Second, 10*time.Minute)
		},
		begin: injectEffect(flysim.LeaseStolen)},
	{name: "lease held by another", weight: 3,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawTiming(r, c, t)
			t.For = drawDuration(r, time.Second, 20*time.Minute)
		},
		begin: func(s *simulation, t Trouble) { s.scheduleTrouble(t, func() { s.takeForeignLeases(t) }) }},
	{name: "leases cleared", weight: 2, draw: drawTiming, begin: func(s *simulation, t Trouble) { s.scheduleTrouble(t, func() { s.clearLeases(t.App) }) }},

	{name: "host unreachable", weight: 4, isLasting: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawTiming(r, c, t)
			t.For = drawDuration(r, time.Second, drawFrom(r, []time.Duration{20 * time.Second, 5 * time.Minute, 3 * time.Hour}))
		},
		begin: func(s *simulation, t Trouble) {
			s.scheduleTrouble(t, func() {
				if m, ok := s.findMachine(t); ok {
					s.fly.Lose(t.App, m.ID)
					time.AfterFunc(time.Duration(t.For), func() { s.fly.Recover(t.App, m.ID) })
				}
			})
		}},
	{name: "host comes back", weight: 3, isTransient: true, isLasting: true, draw: drawTiming, begin: func(s *simulation, t Trouble) {
		a, _, _ := s.findApp(t.App)
		m, ok := s.findMachine(t)
		if !ok || slices.ContainsFunc(a.Groups, func(g Group) bool { return g.Volume }) {
			return // a machine with a volume can't be replaced, so the release would be held
		}
		s.fly.Lose(t.App, m.ID)
		s.scheduleTrouble(t, func() { s.fly.Recover(t.App, m.ID) })
	}},
	{name: "host unreachable at a change", weight: 3, isLasting: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest(changingRoutes[:8])(r, c, t)
			t.For, t.Times = drawDuration(r, time.Second, 10*time.Minute), 1
		},
		begin: injectEffect(flysim.Unreachable)},
	{name: "no capacity", weight: 3, draw: drawOnRequest([]string{"create", "update"}), begin: injectEffect(flysim.NoCapacity)},
	{name: "host takes no changes", weight: 2, draw: drawOnRequest([]string{"update"}), begin: injectEffect(flysim.HostClosed)},
	{name: "image can't be pulled", weight: 2, draw: drawOnRequest([]string{"create", "update"}), begin: injectEffect(flysim.ImageGone)},

	versionFault("never passes", flysim.NeverPasses, 5, 0),
	versionFault("checks fail after an update", flysim.TurnsCritical, 5, 100*time.Second),
	versionFault("crashes", flysim.Crashes, 5, 40*time.Second),
	{name: "crashes once", weight: 3, isLasting: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawOnRequest([]string{"update", "update", "create"})(r, c, t)
			t.For, t.Exits = drawDuration(r, 0, 40*time.Second), 1+r.IntN(2)
		},
		begin: injectFault(func(t Trouble) flysim.Fault {
			return flysim.Fault{Effect: flysim.Crashes, For: time.Duration(t.For), Exit: 3, Exits: t.Exits}
		})},
	{name: "exits by itself", weight: 3, draw: drawTiming, begin: func(s *simulation, t Trouble) {
		s.scheduleTrouble(t, func() {
			if m, ok := s.findMachine(t); ok {
				s.fly.Exit(t.App, m.ID, 3)
			}
		})
	}},
	{name: "stopped by the proxy", weight: 5, isTransient: true, draw: func(r *rand.Rand, c Case, t *Trouble) {
		drawRolloutTiming(r, c, t)
		for _, a := range c.Apps { // the proxy stops only machines with autostop
			if a.AutoStop {
				t.App = flyAppOf(drawFrom(r, c.Environments).Name, a.Name)
			}
		}
	}, begin: func(s *simulation, t Trouble) {
		s.scheduleTrouble(t, func() {
			for _, m := range s.checker.listMachines(t.App) {
				s.fly.Idle(t.App, m.ID)
				s.checker.recordProxyStop(t.App, m.ID)
			}
		})
	}},
	versionFault("never starts", flysim.NeverStarts, 3, 0),
	versionFault("old version put back", flysim.Reverts, 4, 0),
	{name: sickBefore, weight: 3, isTransient: true, draw: func(r *rand.Rand, c Case, t *Trouble) { t.App = drawFlyApp(r, c) }, begin: func(s *simulation, t Trouble) {
		s.fly.Behave = s.behaviourOf
		a, _, _ := s.findApp(t.App)
		for _, m := range s.checker.listMachines(t.App) {
			if m.State == "started" && !a.Still {
				s.fly.FailChecks(t.App, m.ID, cmp.Or(s.hostileOutput(), "failing before the release"))
			}
		}
	}},
	{name: "checks fail at some time", weight: 4, isLasting: true, draw: func(r *rand.Rand, c Case, t *Trouble) {
		drawTiming(r, c, t)
		t.For = drawDuration(r, time.Second, 5*time.Minute)
	}, begin: func(s *simulation, t Trouble) {
		s.scheduleTrouble(t, func() {
			if m, ok := s.findMachine(t); ok {
				s.fly.FailChecks(t.App, m.ID, cmp.Or(s.hostileOutput(), "out of memory"))
				time.AfterFunc(time.Duration(t.For), func() { s.fly.Heal(t.App, m.ID) })
			}
		})
	}},

	{name: "secret set by a person", weight: 3, draw: drawTiming, begin: func(s *simulation, t Trouble) {
		s.scheduleTrouble(t, func() {
			s.checker.recordForeignChange(t.App)
			s.fly.SetSecrets(t.App, map[string]string{"OTHER": time.Now().String()})
		})
	}},
	manualChange("machine updated by a person", func(s *simulation, t Trouble, f *fly.Client, m fly.Machine) error {
		config := editConfig(machineConfig(m), func(doc map[string]any) {
			env, _ := doc["env"].(map[string]any)
			if env == nil {
				env = map[string]any{}
			}
			env["LEVEL"] = "theirs"
			if i, ok := s.hostileNote(); ok {
				env["NOTE"] = noteVariants[i].value("theirs")
			}
			doc["env"] = env
		})
		after, err := f.Update(context.Background(), t.App, m.ID, fly.Update{Config: config})
		s.checker.mu.Lock()
		defer s.checker.mu.Unlock()
		s.checker.foreignVersions[after.InstanceID] = err == nil
		return err
	}),
	manualChange("machine destroyed by a person", func(_ *simulation, t Trouble, f *fly.Client, m fly.Machine) error {
		return f.Destroy(context.Background(), t.App, m.ID, "")
	}),
	manualChange("scaled up by a person", func(_ *simulation, t Trouble, f *fly.Client, m fly.Machine) error {
		if strings.Contains(string(machineConfig(m)), `"mounts":`) {
			return errors.New("a new machine would need a volume")
		}
		_, err := f.Create(context.Background(), t.App, fly.Create{Name: "by-hand-" + hexHash(m.ID + m.InstanceID)[:6], Region: "ams", Config: machineConfig(m)})
		return err
	}),
	manualChange("machine stopped by a person", func(_ *simulation, t Trouble, f *fly.Client, m fly.Machine) error {
		return f.Stop(context.Background(), t.App, m.ID, "")
	}),
	manualChange("machine started by a person", func(_ *simulation, t Trouble, f *fly.Client, m fly.Machine) error {
		return f.Start(context.Background(), t.App, m.ID, "")
	}),
	manualChange("machine cordoned by a person", func(_ *simulation, t Trouble, f *fly.Client, m fly.Machine) error {
		return f.Cordon(context.Background(), t.App, m.ID, "")
	}),

	{name: terminated, weight: 10,
		draw:  func(r *rand.Rand, c Case, t *Trouble) { drawTiming(r, c, t); t.After = drawBool(r, 40) },
		begin: func(s *simulation, t Trouble) { s.scheduleTrouble(t, func() { s.terminateRollout(t.App, t.After) }) },
	},
	{name: historyLost, draw: func(*rand.Rand, Case, *Trouble) {}, begin: func(*simulation, Trouble) {}}, // drawn by worsenTermination
	{name: hostileText, weight: 3, isTransient: true,
		draw:  func(r *rand.Rand, _ Case, t *Trouble) { t.Machine = r.IntN(len(noteVariants)) },
		begin: func(s *simulation, t Trouble) { s.fly.Behave = s.behaviourOf },
	},
	{name: "worker killed", weight: 8, isTransient: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawTiming(r, c, t)
			t.For = drawDuration(r, 0, drawFrom(r, []time.Duration{time.Second, 30 * time.Second, 4 * time.Minute}))
		},
		begin: func(s *simulation, t Trouble) {
			s.scheduleTrouble(t, func() { s.logEvent("the worker is killed"); s.workers.killAll(time.Duration(t.For)) })
		}},
	{name: "no worker for long", weight: 2,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawTiming(r, c, t)
			t.For = drawDuration(r, 5*time.Minute, 90*time.Minute)
		},
		begin: func(s *simulation, t Trouble) {
			s.scheduleTrouble(t, func() { s.logEvent("the worker is killed"); s.workers.killAll(time.Duration(t.For)) })
		}},
	{name: "worker disconnected, but continues", weight: 6, isTransient: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			drawTiming(r, c, t)
			t.For = drawDuration(r, 0, 40*time.Second)
		},
		begin: func(s *simulation, t Trouble) {
			s.scheduleTrouble(t, func() { s.logEvent("the worker is disconnected"); s.workers.disconnectAll(time.Duration(t.For)) })
		}},
	{name: "answer of an activity lost", weight: 8, isTransient: true,
		draw: func(r *rand.Rand, _ Case, t *Trouble) {
			t.Activity = drawFrom(r, []string{"ApplyStep", "ApplyStep", "ApplyStep", "ApplyStep", "TakeLeases", "OpenRollout", "CloseRollout", "Observe", "PlanRollout", "PlanRestore", "Verify", "BuildImage", "LoadProject", "Preflight"})
			t.Skip, t.Times = drawSkewed(r, 8), 1+r.IntN(2)
		},
		begin: func(s *simulation, t Trouble) { s.workers.addLostResult(lostResult{t.Activity, t.Skip, t.Times}) }},
}

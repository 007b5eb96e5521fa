package sim

import (
	"cmp"
	"context"
	"encoding/json"
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

// A Trouble is something that goes wrong, once or a few times.
type Trouble struct {
	Kind string `json:"kind"`
	// It begins with a request (Route), or at a time: At after the simulation
	// began or, with In, after a release or rollout was in that phase first.
	At Duration      `json:"at,omitempty"`
	In release.Phase `json:"in,omitempty"`

	For      Duration `json:"for,omitempty"`
	App      string   `json:"app,omitempty"`     // a Fly app; "" is any
	Machine  int      `json:"machine,omitempty"` // index in the app's machines, by ID
	Route    string   `json:"route,omitempty"`   // a name of routes
	Skip     int      `json:"skip,omitempty"`
	Times    int      `json:"times,omitempty"`
	Status   int      `json:"status,omitempty"`
	After    bool     `json:"after,omitempty"`
	Delay    Duration `json:"delay,omitempty"`
	Activity string   `json:"activity,omitempty"`
	Exits    int      `json:"exits,omitempty"`
}

// A kind of trouble.
type kind struct {
	name   string
	weight int
	// passes: a release is promoted in spite of it, and nobody is asked.
	passes bool
	// lasts: what it does to a machine may stay so until its next update, and
	// keep a baseline from coming back.
	lasts bool
	draw  func(*rand.Rand, Case, *Trouble)
	begin func(*world, Trouble)
}

func (t Trouble) kind() kind {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == t.Kind })
	if i < 0 {
		panic("no such kind of trouble: " + t.Kind)
	}
	return kinds[i]
}

// routes are the requests that trouble may meet, by a short name.
var routes = map[string]string{
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

// routeNames are those of routes; the more often a name is here, the more often
// it is drawn.
var routeNames = []string{
	"create", "create", "update", "update", "update", "update", "list", "list", "get", "get", "get", "wait", "start", "start", "stop", "cordon", "uncordon",
	"destroy", "destroy", "take lease", "take lease", "drop lease", "read lease", "app", "secrets", "volumes", "new volume", "addresses", "graphql",
	"create release", "create release", "update release", "update release", "logs", "any", "any",
}

var changingRoutes = []string{"create", "update", "update", "start", "stop", "cordon", "uncordon", "destroy", "take lease", "create release"}

// phases are where timed trouble begins.
var phases = []release.Phase{
	release.Loading, release.Planning, release.Awaiting, release.RollingOut, release.RollingOut, release.RollingOut, release.Verifying, release.Baking,
	release.CleaningUp, release.RollingBack, release.RollingBack,
}

func onRequest(names []string) func(*rand.Rand, Case, *Trouble) {
	return func(r *rand.Rand, c Case, t *Trouble) {
		t.Route, t.Skip, t.Times = pick(r, names), skew(r, 12), 1+r.IntN(3)
		if r.IntN(2) == 0 {
			t.App = anyApp(r, c)
		}
	}
}

// skew is mostly small, and always less than n.
func skew(r *rand.Rand, n int) int { return r.IntN(r.IntN(n) + 1) }

func sometime(r *rand.Rand, c Case, t *Trouble) {
	t.App, t.Machine = anyApp(r, c), r.IntN(8)
	t.In = pick(r, phases)
	t.At = Duration(time.Duration(skew(r, 40_000)) * time.Millisecond)
}

// midway draws when t begins as sometime does, but mostly while machines are changed.
func midway(r *rand.Rand, c Case, t *Trouble) {
	sometime(r, c, t)
	if chance(r, 60) {
		t.In, t.At = release.RollingOut, between(r, time.Millisecond, 12*time.Second)
	}
}

func anyApp(r *rand.Rand, c Case) string {
	return flyApp(pick(r, c.Environments).Name, pick(r, c.Apps).Name)
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func between(r *rand.Rand, from, to time.Duration) Duration {
	return Duration((from + time.Duration(r.Int64N(int64(to-from)))).Round(time.Millisecond))
}

// inject has flysim do it.
func inject(f func(Trouble) flysim.Fault) func(*world, Trouble) {
	return func(w *world, t Trouble) {
		fault := f(t)
		fault.Route, fault.App, fault.Skip, fault.Times = routes[t.Route], t.App, t.Skip, t.Times
		fault.Delay, fault.Output = time.Duration(t.Delay), w.output()
		w.fly.Inject(fault)
	}
}

func effect(e flysim.Effect) func(*world, Trouble) {
	return inject(func(t Trouble) flysim.Fault { return flysim.Fault{Effect: e, For: time.Duration(t.For), Exit: 3} })
}

// fate is trouble with the version that an update or a create makes.
func fate(name string, e flysim.Effect, weight int, long time.Duration) kind {
	return kind{name: name, weight: weight, lasts: true, begin: effect(e), draw: func(r *rand.Rand, c Case, t *Trouble) {
		onRequest([]string{"update", "update", "create"})(r, c, t)
		if long > 0 {
			t.For = between(r, 0, long)
		}
	}}
}

// kinds are all there is of trouble.
var kinds = []kind{
	{name: "error instead of an answer", weight: 8, passes: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest(routeNames)(r, c, t)
			t.Status = pick(r, []int{408, 429, 500, 502, 503, 504})
		},
		begin: inject(func(t Trouble) flysim.Fault { return flysim.Fault{Status: t.Status} })},
	{name: "done, and the answer is an error", weight: 8, passes: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest(routeNames)(r, c, t)
			t.Status = pick(r, []int{408, 500, 502, 504})
		},
		begin: inject(func(t Trouble) flysim.Fault { return flysim.Fault{Status: t.Status, After: true} })},
	{name: "connection reset", weight: 8, passes: true,
		draw:  func(r *rand.Rand, c Case, t *Trouble) { onRequest(routeNames)(r, c, t); t.After = r.IntN(2) == 0 },
		begin: inject(func(t Trouble) flysim.Fault { return flysim.Fault{Drop: true, After: t.After} })},
	{name: "answer cut in the middle", weight: 4, passes: true,
		draw: onRequest(routeNames),
		begin: inject(func(Trouble) flysim.Fault {
			return flysim.Fault{Status: http.StatusOK, Body: `{"id": "148`, After: true}
		})},
	{name: "rate limited", weight: 3, passes: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest(routeNames)(r, c, t)
			t.For = Duration(time.Duration(1+r.IntN(9)) * time.Second)
		},
		begin: inject(func(t Trouble) flysim.Fault {
			return flysim.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {fmt.Sprint(int(time.Duration(t.For).Seconds()))}}}
		})},
	{name: "slow", weight: 4, passes: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest(routeNames)(r, c, t)
			t.Delay, t.After = between(r, time.Second, 6*time.Second), r.IntN(2) == 0
		},
		begin: inject(func(t Trouble) flysim.Fault { return flysim.Fault{After: t.After} })},
	{name: "hanging", weight: 4,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest(routeNames)(r, c, t)
			t.Delay, t.After, t.Times = between(r, 30*time.Second, 10*time.Minute), r.IntN(2) == 0, 1+r.IntN(2)
		},
		begin: inject(func(t Trouble) flysim.Fault { return flysim.Fault{After: t.After} })},
	{name: "refused", weight: 4,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest(slices.DeleteFunc(slices.Clone(routeNames), func(name string) bool { return name == "drop lease" }))(r, c, t)
			t.Status, t.Times = pick(r, []int{400, 401, 403, 404, 409, 412, 422}), 1
		},
		begin: inject(func(t Trouble) flysim.Fault { return flysim.Fault{Status: t.Status} })},
	{name: "not found just after create", weight: 3, passes: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest([]string{"create"})(r, c, t)
			t.For = between(r, 0, 3*time.Second)
		},
		begin: effect(flysim.NotYet)},
	{name: "stale read", weight: 4, passes: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest([]string{"get", "list"})(r, c, t)
			t.Times = 1 + r.IntN(2)
		},
		begin: effect(flysim.Stale)},
	{name: "stale list", weight: 4,
		draw: func(r *rand.Rand, c Case, t *Trouble) { sometime(r, c, t); t.Times = 1 + r.IntN(3) },
		begin: func(w *world, t Trouble) {
			w.line.remember(t.App)
			w.at(t, func() { w.line.repeat(t.App, t.Times) })
		}},
	{name: "Fly is away", weight: 4,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			sometime(r, c, t)
			if r.IntN(2) == 0 {
				t.App = ""
			}
			t.For = between(r, 5*time.Second, pick(r, []time.Duration{time.Minute, 10 * time.Minute, 65 * time.Minute, 150 * time.Minute}))
			t.Status = pick(r, []int{0, 500, 503, 408})
		},
		begin: func(w *world, t Trouble) {
			w.at(t, func() {
				w.line.goesAway(outage{until: time.Now().Add(time.Duration(t.For)), app: t.App, status: t.Status})
			})
		}},

	{name: "lease lost", weight: 3, draw: onRequest(changingRoutes[:8]), begin: effect(flysim.LeaseLost)},
	{name: "lease stolen", weight: 3,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest(changingRoutes[:8])(r, c, t)
			t.For = between(r, time.Second, 10*time.Minute)
		},
		begin: effect(flysim.LeaseStolen)},
	{name: "lease held by another", weight: 3,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			sometime(r, c, t)
			t.For = between(r, time.Second, 20*time.Minute)
		},
		begin: func(w *world, t Trouble) { w.at(t, func() { w.strangerLeases(t) }) }},
	{name: "leases cleared", weight: 2, draw: sometime, begin: func(w *world, t Trouble) { w.at(t, func() { w.clearLeases(t.App) }) }},

	{name: "host unreachable", weight: 4, lasts: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			sometime(r, c, t)
			t.For = between(r, time.Second, pick(r, []time.Duration{20 * time.Second, 5 * time.Minute, 3 * time.Hour}))
		},
		begin: func(w *world, t Trouble) {
			w.at(t, func() {
				if m, ok := w.machine(t); ok {
					w.fly.Lose(t.App, m.ID)
					time.AfterFunc(time.Duration(t.For), func() { w.fly.Recover(t.App, m.ID) })
				}
			})
		}},
	{name: "host comes back", weight: 3, passes: true, lasts: true, draw: sometime, begin: func(w *world, t Trouble) {
		a, _, _ := w.app(t.App)
		m, ok := w.machine(t)
		if !ok || slices.ContainsFunc(a.Groups, func(g Group) bool { return g.Volume }) {
			return // what is tied to a host waits for it, and says so
		}
		w.fly.Lose(t.App, m.ID)
		w.at(t, func() { w.fly.Recover(t.App, m.ID) })
	}},
	{name: "host unreachable at a change", weight: 3, lasts: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest(changingRoutes[:8])(r, c, t)
			t.For, t.Times = between(r, time.Second, 10*time.Minute), 1
		},
		begin: effect(flysim.Unreachable)},
	{name: "no capacity", weight: 3, draw: onRequest([]string{"create", "update"}), begin: effect(flysim.NoCapacity)},
	{name: "host takes no changes", weight: 2, draw: onRequest([]string{"update"}), begin: effect(flysim.HostClosed)},
	{name: "image can't be pulled", weight: 2, draw: onRequest([]string{"create", "update"}), begin: effect(flysim.ImageGone)},

	fate("never passes", flysim.NeverPasses, 5, 0),
	fate("sours", flysim.TurnsCritical, 5, 100*time.Second),
	fate("crashes", flysim.Crashes, 5, 40*time.Second),
	{name: "crashes once", weight: 3, lasts: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			onRequest([]string{"update", "update", "create"})(r, c, t)
			t.For, t.Exits = between(r, 0, 40*time.Second), 1+r.IntN(2)
		},
		begin: inject(func(t Trouble) flysim.Fault {
			return flysim.Fault{Effect: flysim.Crashes, For: time.Duration(t.For), Exit: 3, Exits: t.Exits}
		})},
	{name: "exits by itself", weight: 3, draw: sometime, begin: func(w *world, t Trouble) {
		w.at(t, func() {
			if m, ok := w.machine(t); ok {
				w.fly.Exit(t.App, m.ID, 3)
			}
		})
	}},
	{name: "stopped by the proxy", weight: 5, passes: true, draw: func(r *rand.Rand, c Case, t *Trouble) {
		midway(r, c, t)
		for _, a := range c.Apps { // of others it stops nothing
			if a.AutoStop {
				t.App = flyApp(pick(r, c.Environments).Name, a.Name)
			}
		}
	}, begin: func(w *world, t Trouble) {
		w.at(t, func() {
			for _, m := range w.watch.machines(t.App) {
				w.fly.Idle(t.App, m.ID)
				w.watch.rest(t.App, m.ID)
			}
		})
	}},
	fate("never starts", flysim.NeverStarts, 3, 0),
	fate("old version put back", flysim.Reverts, 4, 0),
	{name: sickBefore, weight: 3, passes: true, draw: func(r *rand.Rand, c Case, t *Trouble) { t.App = anyApp(r, c) }, begin: func(w *world, t Trouble) {
		w.fly.Behave = w.behaves
		a, _, _ := w.app(t.App)
		for _, m := range w.watch.machines(t.App) {
			if m.State == "started" && !a.Still {
				w.fly.FailChecks(t.App, m.ID, cmp.Or(w.output(), "it was sick before"))
			}
		}
	}},
	{name: "goes sour by itself", weight: 4, lasts: true, draw: func(r *rand.Rand, c Case, t *Trouble) {
		sometime(r, c, t)
		t.For = between(r, time.Second, 5*time.Minute)
	}, begin: func(w *world, t Trouble) {
		w.at(t, func() {
			if m, ok := w.machine(t); ok {
				w.fly.FailChecks(t.App, m.ID, cmp.Or(w.output(), "out of memory"))
				time.AfterFunc(time.Duration(t.For), func() { w.fly.Heal(t.App, m.ID) })
			}
		})
	}},

	{name: "secret set by a person", weight: 3, draw: sometime, begin: func(w *world, t Trouble) {
		w.at(t, func() {
			w.watch.strange(t.App)
			w.fly.SetSecrets(t.App, map[string]string{"OTHER": time.Now().String()})
		})
	}},
	stranger("machine updated by a person", func(w *world, t Trouble, f *fly.Client, m fly.Machine) error {
		config := edit(configOf(m), func(doc map[string]any) {
			env, _ := doc["env"].(map[string]any)
			if env == nil {
				env = map[string]any{}
			}
			env["LEVEL"] = "theirs"
			if i, ok := w.hostile(); ok {
				env["NOTE"] = notes[i].value("theirs")
			}
			doc["env"] = env
		})
		after, err := f.Update(context.Background(), t.App, m.ID, fly.Update{Config: config})
		w.watch.mu.Lock()
		defer w.watch.mu.Unlock()
		w.watch.theirs[after.InstanceID] = err == nil
		return err
	}),
	stranger("machine destroyed by a person", func(_ *world, t Trouble, f *fly.Client, m fly.Machine) error {
		return f.Destroy(context.Background(), t.App, m.ID, "")
	}),
	stranger("scaled up by a person", func(_ *world, t Trouble, f *fly.Client, m fly.Machine) error {
		if strings.Contains(string(configOf(m)), `"mounts":`) {
			return errors.New("it would need a volume")
		}
		_, err := f.Create(context.Background(), t.App, fly.Create{Name: "by-hand-" + shortHash(m.ID + m.InstanceID)[:6], Region: "ams", Config: configOf(m)})
		return err
	}),
	stranger("machine stopped by a person", func(_ *world, t Trouble, f *fly.Client, m fly.Machine) error {
		return f.Stop(context.Background(), t.App, m.ID, "")
	}),
	stranger("machine started by a person", func(_ *world, t Trouble, f *fly.Client, m fly.Machine) error {
		return f.Start(context.Background(), t.App, m.ID, "")
	}),
	stranger("machine cordoned by a person", func(_ *world, t Trouble, f *fly.Client, m fly.Machine) error {
		return f.Cordon(context.Background(), t.App, m.ID, "")
	}),

	{name: terminated, weight: 10,
		draw:  func(r *rand.Rand, c Case, t *Trouble) { sometime(r, c, t); t.After = chance(r, 40) },
		begin: func(w *world, t Trouble) { w.at(t, func() { w.terminate(t.App, t.After) }) },
	},
	{name: historyLost, draw: func(*rand.Rand, Case, *Trouble) {}, begin: func(*world, Trouble) {}}, // drawn with the former
	{name: hostileText, weight: 3, passes: true,
		draw:  func(r *rand.Rand, _ Case, t *Trouble) { t.Machine = r.IntN(len(notes)) },
		begin: func(w *world, t Trouble) { w.fly.Behave = w.behaves },
	},
	{name: "worker killed", weight: 8, passes: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			sometime(r, c, t)
			t.For = between(r, 0, pick(r, []time.Duration{time.Second, 30 * time.Second, 4 * time.Minute}))
		},
		begin: func(w *world, t Trouble) {
			w.at(t, func() { w.tell("the worker is killed"); w.staff.kill(time.Duration(t.For)) })
		}},
	{name: "no worker for long", weight: 2,
		draw: func(r *rand.Rand, c Case, t *Trouble) {
			sometime(r, c, t)
			t.For = between(r, 5*time.Minute, 90*time.Minute)
		},
		begin: func(w *world, t Trouble) {
			w.at(t, func() { w.tell("the worker is killed"); w.staff.kill(time.Duration(t.For)) })
		}},
	{name: "worker cut off, and goes on", weight: 6, passes: true,
		draw: func(r *rand.Rand, c Case, t *Trouble) { sometime(r, c, t); t.For = between(r, 0, 40*time.Second) },
		begin: func(w *world, t Trouble) {
			w.at(t, func() { w.tell("the worker is cut off"); w.staff.cutOff(time.Duration(t.For)) })
		}},
	{name: "answer of an activity lost", weight: 8, passes: true,
		draw: func(r *rand.Rand, _ Case, t *Trouble) {
			t.Activity = pick(r, []string{"ApplyStep", "ApplyStep", "ApplyStep", "ApplyStep", "TakeLeases", "OpenRollout", "CloseRollout", "Observe", "PlanRollout", "PlanRestore", "Verify", "BuildImage", "LoadProject", "Preflight"})
			t.Skip, t.Times = skew(r, 8), 1+r.IntN(2)
		},
		begin: func(w *world, t Trouble) { w.staff.lose(loss{t.Activity, t.Skip, t.Times}) }},
}

// machine is the one that t names, if the app has any.
func (w *world) machine(t Trouble) (fly.Machine, bool) {
	all := w.watch.machines(t.App)
	if len(all) == 0 {
		return fly.Machine{}, false
	}
	return all[t.Machine%len(all)], true
}

// at does something when t begins.
func (w *world) at(t Trouble, do func()) {
	if t.In == "" {
		time.AfterFunc(time.Duration(t.At), func() { w.happens(t, do) })
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, pending{t, do})
}

// A pending trouble waits for its phase.
type pending struct {
	Trouble
	do func()
}

func (w *world) happens(t Trouble, do func()) {
	w.mu.Lock()
	over := w.healed
	if !over {
		w.result.Happened[t.Kind]++
	}
	w.mu.Unlock()
	if over {
		return
	}
	w.tell("%s (%s)", t.Kind, t.App)
	do()
}

// troubled begins what waits for phase p.
func (w *world) troubled(p release.Phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(x pending) bool {
		if x.In != p {
			return false
		}
		time.AfterFunc(time.Duration(x.At), func() { w.happens(x.Trouble, x.do) })
		return true
	})
}

// String is t as JSON, for people who look for a bug.
func (t Trouble) String() string {
	doc, err := json.Marshal(t)
	if err != nil {
		return t.Kind
	}
	return string(doc)
}

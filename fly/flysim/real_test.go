package flysim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

// servers is a flysim.Runner whose processes are HTTP servers in this process.
type servers struct {
	mu     sync.Mutex
	routes []int // number of backends at each call of Route
	procs  map[string]*server
	refuse atomic.Bool // Start fails
}

type server struct {
	*httptest.Server
	instance flysim.Instance
	done     chan struct{}
	once     sync.Once
	code     int
	status   atomic.Int32 // of /health
	routed   func() int   // number of backends of the last call of Route
	inRoutes int          // number of backends when Stop was called
}

func (r *servers) Start(_ context.Context, in flysim.Instance) (flysim.Process, error) {
	if r.refuse.Load() {
		return nil, errors.New("pull shop:2: manifest unknown")
	}
	p := &server{instance: in, done: make(chan struct{}), routed: r.last}
	p.status.Store(200)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.WriteHeader(int(p.status.Load()))
		fmt.Fprintf(w, "%s of %s", q.Method, q.Header.Get("X-From"))
	}))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.procs == nil {
		r.procs = map[string]*server{}
	}
	r.procs[in.ID] = p
	return p, nil
}

func (r *servers) Route(_ string, backends []flysim.Backend) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.routes = append(r.routes, len(backends))
}

func (r *servers) last() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.routes) == 0 {
		return 0
	}
	return r.routes[len(r.routes)-1]
}

func (r *servers) proc(id string) *server {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.procs[id]
}

func (r *servers) URL(app string) string { return "http://" + app + ".localhost:1" }

func (p *server) Addr(int) string                     { return p.Listener.Addr().String() }
func (p *server) ListeningPorts(internal []int) []int { return internal }
func (p *server) Done() <-chan struct{}               { return p.done }
func (p *server) ExitCode() int                       { return p.code }
func (p *server) Log() []string                       { return []string{"hello", p.instance.Secrets["KEY"]} }

func (p *server) Stop(context.Context, string, time.Duration) error {
	p.inRoutes = p.routed()
	p.exit(0)
	return nil
}

func (p *server) exit(code int) {
	p.once.Do(func() {
		p.code = code
		p.Close()
		close(p.done)
	})
}

// until polls the first machine until ok returns true.
func until(t *testing.T, sim *flysim.Sim, what string, ok func(fly.Machine) bool) fly.Machine {
	t.Helper()
	for t.Context().Err() == nil {
		if all := sim.Machines("shop"); len(all) > 0 && ok(all[0]) {
			return all[0]
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("never %s: %+v", what, sim.Machines("shop"))
	return fly.Machine{}
}

func TestRunner_RealProcesses(t *testing.T) {
	const config = `{"image":"shop:1","restart":{"policy":"on-failure","max_retries":1},"services":[{"internal_port":8080,"ports":[{"port":80,"handlers":["http"]}],
		"checks":[{"type":"http","method":"get","path":"/health","interval":"1h","grace_period":"1h","headers":[{"name":"X-From","values":["fly"]}]}]}]}`
	runner := &servers{}
	file := filepath.Join(t.TempDir(), "fly.json")
	sim := &flysim.Sim{Runner: runner, CheckEvery: 5 * time.Millisecond, Latency: flysim.Latency{Restart: time.Millisecond}, Journal: file}
	t.Cleanup(sim.Close)
	sim.SetSecrets("shop", map[string]string{"KEY": "secret-value"})
	sim.Put("shop", fly.Machine{ID: "m1", Config: json.RawMessage(config)})
	c := &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}, Unlimited: true}
	passing := func(m fly.Machine) bool { return m.State == "started" && checkStatus(m) == "passing" }

	m := until(t, sim, "passing", passing)
	if got := m.Checks[0].Output; got != "200 OK GET of fly" {
		t.Errorf("output %q", got)
	}
	for runner.last() != 1 { // Route is called a moment after the state is visible
		time.Sleep(time.Millisecond)
	}
	if a, err := c.App(t.Context(), "shop"); err != nil || a.URL != "https://shop.fly.dev" {
		t.Errorf("the URL without an address is %s, %v", a.URL, err)
	}
	sim.SetAddresses("shop", "private_v6")
	if a, err := c.App(t.Context(), "shop"); err != nil || a.URL != "https://shop.fly.dev" {
		t.Errorf("the URL with only a private address is %s, %v", a.URL, err)
	}
	sim.SetAddresses("shop", "shared_v4")
	if a, err := c.App(t.Context(), "shop"); err != nil || a.URL != "http://shop.localhost:1" {
		t.Errorf("the URL is %s, %v", a.URL, err)
	}

	_, first := request(t, sim, "GET", "/api/v1/apps/shop/logs?next_token=", "")
	_, second := request(t, sim, "GET", "/api/v1/apps/shop/logs?next_token="+valueAt(first, "meta", "next_token").(string), "")
	if n, again := len(valueAt(first, "data").([]any)), valueAt(second, "data").([]any); n != 2 || len(again) != 0 {
		t.Errorf("%d lines, then these again: %v", n, again)
	}

	runner.proc("m1").status.Store(500)
	m = until(t, sim, "critical", func(m fly.Machine) bool { return checkStatus(m) == "critical" })
	if !strings.HasPrefix(m.Checks[0].Output, "500 Internal Server Error") {
		t.Errorf("output %q", m.Checks[0].Output)
	}
	for runner.last() != 0 {
		time.Sleep(time.Millisecond)
	}
	runner.proc("m1").status.Store(200)
	until(t, sim, "passing again", passing)

	if err := c.Cordon(t.Context(), "shop", "m1", ""); err != nil || runner.last() != 0 {
		t.Errorf("cordoned, but routed: %d %v", runner.last(), err)
	}
	if err := c.Uncordon(t.Context(), "shop", "m1", ""); err != nil || runner.last() != 1 {
		t.Errorf("uncordoned, but not routed: %d %v", runner.last(), err)
	}

	old := runner.proc("m1")
	if _, err := c.Update(t.Context(), "shop", "m1", fly.Update{Config: json.RawMessage(config)}); err != nil {
		t.Fatal(err)
	}
	until(t, sim, "updated", passing)
	if old.inRoutes != 0 {
		t.Error("stopped while it had traffic")
	}
	if runner.proc("m1") == old {
		t.Error("the process is the old one")
	}

	runner.proc("m1").exit(3)
	until(t, sim, "restarted", func(m fly.Machine) bool { x, ok := m.LastCrash(); return ok && x.RestartCount == 1 && passing(m) })
	runner.proc("m1").exit(4)
	m = until(t, sim, "stopped after its retries", func(m fly.Machine) bool { return m.State == "stopped" })
	if x, ok := m.LastExit(); !ok || x.Code != 4 || x.Restarting || x.Requested {
		t.Errorf("exit %+v %v", x, ok)
	}
	lines, err := c.Logs(t.Context(), "shop", "m1")
	if err != nil || len(lines) != 6 || lines[5].Message != "secret-value" { // two lines each of three processes
		t.Errorf("log %+v, %v", lines, err)
	}

	runner.refuse.Store(true)
	if _, err := c.Update(t.Context(), "shop", "m1", fly.Update{Config: json.RawMessage(config)}); err != nil {
		t.Fatal(err)
	}
	until(t, sim, "failed", func(m fly.Machine) bool { return m.State == "failed" })
	err = c.Wait(t.Context(), "shop", "m1", fly.Wait{Timeout: time.Minute})
	if !errors.Is(err, fly.ErrInvalid) {
		t.Errorf("wait for a machine that can't start: %v", err)
	}
	runner.refuse.Store(false)
	if err := c.Start(t.Context(), "shop", "m1", ""); err != nil {
		t.Fatal(err)
	}
	until(t, sim, "started again", passing)

	sim.Close()
	next := &flysim.Sim{Runner: runner, CheckEvery: 5 * time.Millisecond, Journal: file}
	t.Cleanup(next.Close)
	until(t, next, "started from the journal", passing)
}

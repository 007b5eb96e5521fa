package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/config"
	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// A rolloutCommand is a rollout of one app, and the time of flyctl for the same rollout
// on a stub with the same latencies and without smoke checks.
type rolloutCommand struct {
	name     string
	strategy string
	command  string // release command
	machines int    // running before; 0 is a first rollout of 2
	flyctl   time.Duration
	traffic  time.Duration // until flyctl had traffic on green; 0: it changes machines in place
	goal     time.Duration
}

var rolloutCommands = []rolloutCommand{
	{name: "first rollout, 2 machines", strategy: "rolling", flyctl: 8500 * time.Millisecond, goal: 4200 * time.Millisecond},
	{name: "rolling, 2 machines", strategy: "rolling", machines: 2, flyctl: 8200 * time.Millisecond},
	{name: "rolling, 2 machines, release command", strategy: "rolling", machines: 2, command: "migrate up", flyctl: 11700 * time.Millisecond, goal: 11 * time.Second},
	{name: "rolling, 6 machines", strategy: "rolling", machines: 6, flyctl: 15200 * time.Millisecond, goal: 11300 * time.Millisecond},
	{name: "rolling, 60 machines", strategy: "rolling", machines: 60, flyctl: 15900 * time.Millisecond, goal: 11300 * time.Millisecond},
	{name: "bluegreen, 20 machines", strategy: "bluegreen", machines: 20, flyctl: 27600 * time.Millisecond, traffic: 5800 * time.Millisecond, goal: 25 * time.Second},
}

// BenchmarkRolloutCommands measures `release start --wait`: whole
// processes from keyboard to exit, in real time, against a simulated Fly that
// takes as long as the stub that flyctl was measured on and enforces no limits.
func BenchmarkRolloutCommands(b *testing.B) {
	program := buildProgram(b)
	for _, c := range rolloutCommands {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				c.measure(b, program)
			}
		})
	}
}

func buildProgram(b *testing.B) string {
	program := filepath.Join(b.TempDir(), "release")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/release").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

func (c rolloutCommand) measure(b *testing.B, program string) {
	w := newFixture(b)
	w.acts.Poll, w.acts.Git = 0, w.acts.Git.(clone).Mirror // as in a worker for the real Fly
	w.Write("release.toml", "project = \"shop\"\n[apps.api]\ngo = \"./api\"\n[environments.production]\n")
	w.Write("infra/fly/api/production/fly.toml", c.flyToml())
	if err := os.RemoveAll(filepath.Join(w.Dir, "infra/fly/api/staging")); err != nil {
		b.Fatal(err)
	}
	w.Commit("Measure " + c.name)
	w.putMachines(c.machines)
	w.sim.Latency = flysim.Latency{
		API: 30 * time.Millisecond, Change: 400 * time.Millisecond, Boot: 2 * time.Second, Check: time.Second, Stop: time.Second,
		Destroy: 500 * time.Millisecond, Command: time.Second,
	}
	// Like flyctl in its measurement: with an existing image.
	cmd := exec.Command(program, "start", "--wait", "--image", "api=registry.fly.io/shop-production-api@sha256:"+strings.Repeat("2", 64))
	cmd.Dir, cmd.Env = w.Dir, w.environ
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begin)
	if err != nil {
		b.Fatalf("release start: %v\n%s", err, out)
	}
	line := fmt.Sprintf("%s: %.1f s, flyctl %.1f s (%.2f of it)", c.name, took.Seconds(), c.flyctl.Seconds(), took.Seconds()/c.flyctl.Seconds())
	if c.goal > 0 {
		line += fmt.Sprintf(", goal %.1f s", c.goal.Seconds())
	}
	if c.traffic > 0 {
		shown := w.lastRequestTo("POST /v1/apps/{app}/machines/{id}/uncordon").Sub(begin)
		line += fmt.Sprintf("; traffic on green after %.1f s, flyctl %.1f s (%.2f of it)", shown.Seconds(), c.traffic.Seconds(), shown.Seconds()/c.traffic.Seconds())
	}
	fmt.Println(line)
	w.stopWorker()
}

func (c rolloutCommand) flyToml() string {
	command := ""
	if c.command != "" {
		command = fmt.Sprintf("release_command = %q\n", c.command)
	}
	return fmt.Sprintf(`app = "shop-production-api"
primary_region = "ams"
[deploy]
strategy = %q
max_unavailable = 0.33
%s[http_service]
internal_port = 8080
[[http_service.checks]]
path = "/health"
interval = "10s"
timeout = "2s"
grace_period = "1s"
`, c.strategy, command)
}

// putMachines creates n machines with the config of the commit and another image.
func (w *fixture) putMachines(n int) {
	w.t.Helper()
	project, _, err := config.Load(os.DirFS(w.Dir))
	if err != nil {
		w.t.Fatal(err)
	}
	target := project.Environments[0].Targets[0]
	old := release.Image("registry.fly.io/" + target.FlyApp + "@sha256:" + strings.Repeat("0", 64))
	spec, err := config.Spec(project, target, old, release.State{Target: target.Target})
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range n {
		w.sim.Put(target.FlyApp, fly.Machine{ID: fmt.Sprintf("%014x", i+1), Name: fmt.Sprint("m", i), Region: "ams", Config: spec.Groups[0].New[0].Config.Doc})
	}
}

// lastRequestTo returns when Fly responded to the last request of that route.
func (w *fixture) lastRequestTo(route string) (at time.Time) {
	for _, r := range slices.Backward(w.sim.Requests()) {
		if r.Route == route {
			return r.At
		}
	}
	return at
}

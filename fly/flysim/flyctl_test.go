package flysim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

// A cli runs the real flyctl against a Sim.
type cli struct {
	binary, url, home string
	sim               *flysim.Sim
}

func newCLI(t *testing.T, sim *flysim.Sim) cli {
	t.Helper()
	binary := os.Getenv("FLYCTL")
	if binary == "" {
		t.Skip("no flyctl: set FLYCTL to the path of its binary")
	}
	t.Parallel()
	srv := httptest.NewServer(sim)
	t.Cleanup(func() { sim.Close(); srv.Close() })
	return cli{binary, srv.URL, t.TempDir(), sim}
}

// newSlowSim returns a Sim with small latencies, as flyctl expects them.
func newSlowSim() *flysim.Sim {
	const moment = 50 * time.Millisecond
	return &flysim.Sim{Latency: flysim.Latency{Boot: moment, Check: moment, Stop: moment, Destroy: moment, Command: moment}}
}

// tryCommand runs one command and returns its exit code and output. The command has no
// settings but these and no access beyond this machine: traffic that uses a
// proxy gets one that does not exist. (flyctl starts no agent either: flysim
// does not implement WireGuard.)
func (c cli) tryCommand(t *testing.T, args ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.binary, args...)
	cmd.Dir = c.home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + c.home, "NO_COLOR=1", "TERM=dumb", "FLY_ACCESS_TOKEN=x",
		"FLY_API_BASE_URL=" + c.url, "FLY_FLAPS_BASE_URL=" + c.url, "FLY_UIEX_BASE_URL=" + c.url,
		"FLY_METRICS_BASE_URL=" + c.url, "FLY_TRACE_COLLECTOR_URL=127.0.0.1:1", "FLY_SEND_METRICS=0",
		"FLY_NO_UPDATE_CHECK=1", "FLY_NO_INCIDENTS_CHECK=1", "FLY_SYNTHETICS_AGENT=0",
		"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1",
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("flyctl %s: %v", strings.Join(args, " "), err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// runCommand calls tryCommand and fails the test if the command fails.
func (c cli) runCommand(t *testing.T, args ...string) string {
	t.Helper()
	code, out := c.tryCommand(t, args...)
	if code != 0 {
		t.Fatalf("flyctl %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// readJSON returns the JSON output of a command.
func (c cli) readJSON(t *testing.T, args ...string) any {
	t.Helper()
	out := c.runCommand(t, append(args, "--json")...)
	var v any
	if err := json.NewDecoder(bytes.NewReader([]byte(out[max(0, strings.IndexAny(out, "[{")):]))).Decode(&v); err != nil {
		t.Fatalf("flyctl %s: %v in %s", strings.Join(args, " "), err, out)
	}
	return v
}

// createApp creates a Fly app with that fly.toml.
func (c cli) createApp(t *testing.T, toml string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.home, "fly.toml"), []byte("app = \"shop\"\nprimary_region = \"fra\"\n"+toml), 0o600); err != nil {
		t.Fatal(err)
	}
	c.runCommand(t, "apps", "create", "shop", "--org", "personal")
}

func deployOf(image string, more ...string) []string {
	return append([]string{"deploy", "--image", "registry.fly.io/shop:" + image, "--smoke-checks=false", "--dns-checks=false"}, more...)
}

// machines returns the machines of the shop as "group state tag", sorted.
func (c cli) machines() (out []string) {
	for _, m := range c.sim.Machines("shop") {
		out = append(out, fmt.Sprintf("%s %s %s", m.Metadata()["fly_process_group"], m.State, m.ImageRef.Tag))
	}
	slices.Sort(out)
	return out
}

func (c cli) ids() (ids []string) {
	for _, m := range c.sim.Machines("shop") {
		ids = append(ids, m.ID)
	}
	return ids
}

// releases returns the Fly releases of the shop as "version status", oldest
// first.
func (c cli) releases() (out []string) {
	for _, r := range c.sim.Releases("shop") {
		out = append(out, fmt.Sprintf("%d %s", r.Version, r.Status))
	}
	return out
}

func wantStrings(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

const (
	webToml = "[http_service]\n  internal_port = 8080\n  [[http_service.checks]]\n    path = \"/health\"\n    interval = \"2s\"\n    timeout = \"1s\"\n    grace_period = \"1s\"\n"
	twoToml = "[deploy]\n  release_command = \"migrate up\"\n[processes]\n  web = \"serve\"\n  worker = \"work\"\n"
)

// TestFlyctl_Deploy: the real flyctl creates machines and updates them by each
// strategy, and flysim reports the result.
func TestFlyctl_Deploy(t *testing.T) {
	groups := strings.Replace(webToml, "[http_service]\n", "[http_service]\n  processes = [\"web\"]\n", 1)
	for name, test := range map[string]struct {
		toml   string
		runs   string // the running machines after the first deploy
		remade bool   // replaced by other machines
	}{
		"rolling":               {toml: webToml},
		"canary":                {toml: webToml},
		"bluegreen":             {toml: webToml, remade: true},
		"immediate":             {toml: webToml},
		"rolling with groups":   {toml: twoToml + groups},
		"canary with groups":    {toml: twoToml + groups},
		"bluegreen with groups": {toml: twoToml + groups, remade: true},
		"immediate with groups": {toml: twoToml + groups},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCLI(t, newSlowSim())
			strategy, _, grouped := strings.Cut(name, " ")
			running := func(tag string) []string {
				if grouped { // the second worker is a standby
					return []string{"web started " + tag, "web started " + tag, "worker started " + tag, "worker stopped " + tag}
				}
				return []string{"app started " + tag, "app started " + tag}
			}
			c.createApp(t, test.toml)
			c.runCommand(t, deployOf("1", "--strategy", strategy)...)
			before := c.ids()
			eventually(t, "first deploy", c.machines, running("1"))
			c.runCommand(t, deployOf("2", "--strategy", strategy)...)
			eventually(t, "second deploy", c.machines, running("2"))
			wantStrings(t, "releases", c.releases(), []string{"1 complete", "2 complete"})
			if after := c.ids(); slices.Equal(before, after) == test.remade {
				t.Errorf("machines %s became %s", before, after)
			}
			for _, m := range c.sim.Machines("shop") {
				if m.Cordoned || m.Metadata()["fly_release_version"] != "2" {
					t.Errorf("machine %s: cordoned %t, of Fly release %s", m.ID, m.Cordoned, m.Metadata()["fly_release_version"])
				}
			}
			if left := c.sim.Leases("shop"); len(left) > 0 {
				t.Errorf("leases left: %v", left)
			}
			if got := commands(c.sim); grouped && got != 2 || !grouped && got != 0 {
				t.Errorf("the release command ran %d times", got)
			}
		})
	}
}

// eventually waits for the asynchronous part of a deploy.
func eventually(t *testing.T, what string, get func() []string, want []string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !slices.Equal(get(), want) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	wantStrings(t, what, get(), want)
}

// commands counts the machines created for release commands.
func commands(sim *flysim.Sim) (n int) {
	for _, r := range sim.Requests() {
		if r.Route == "POST /v1/apps/{app}/machines" && bytes.Contains(r.Body, []byte(`"fly_process_group":"fly_app_release_command"`)) {
			n++
		}
	}
	return n
}

// TestFlyctl_ReleaseCommandFails: after a failed release command nothing is
// deployed.
func TestFlyctl_ReleaseCommandFails(t *testing.T) {
	sim := newSlowSim()
	one := 1
	sim.Behave = func(_ string, config json.RawMessage) flysim.Behaviour {
		if bytes.Contains(config, []byte("RELEASE_COMMAND")) && bytes.Contains(config, []byte("shop:2")) {
			return flysim.Behaviour{CrashExit: &one}
		}
		return flysim.Behaviour{}
	}
	c := newCLI(t, sim)
	c.createApp(t, "[deploy]\n  release_command = \"migrate up\"\n"+webToml)
	c.runCommand(t, deployOf("1")...)
	code, out := c.tryCommand(t, deployOf("2")...)
	if code != 1 || !strings.Contains(out, "exited with non-zero status of 1") {
		t.Errorf("exit %d\n%s", code, out)
	}
	wantStrings(t, "machines", c.machines(), []string{"app started 1", "app started 1"})
	wantStrings(t, "releases", c.releases(), []string{"1 complete", "2 failed"})
}

// TestFlyctl_Mounts: a machine keeps its volume, strategies that would need a
// second volume fail and change nothing, and scaling uses a free volume.
func TestFlyctl_Mounts(t *testing.T) {
	c := newCLI(t, newSlowSim())
	c.createApp(t, "[mounts]\n  source = \"data\"\n  destination = \"/data\"\n"+webToml)
	c.runCommand(t, deployOf("1")...)
	c.runCommand(t, deployOf("2", "--strategy", "rolling")...)
	for strategy, says := range map[string]string{"bluegreen": "is attached to machine", "canary": "not supported when using mounted volumes"} {
		if code, out := c.tryCommand(t, deployOf("3", "--strategy", strategy)...); code != 1 || !strings.Contains(out, says) {
			t.Errorf("%s: exit %d\n%s", strategy, code, out)
		}
		wantStrings(t, strategy, c.machines(), []string{"app started 2"})
	}
	c.runCommand(t, deployOf("4", "--strategy", "immediate")...)
	wantStrings(t, "releases", c.releases(), []string{"1 complete", "2 complete", "3 failed", "4 complete"})

	c.runCommand(t, "volumes", "create", "data", "--region", "fra", "--size", "2", "--yes")
	c.runCommand(t, "scale", "count", "2", "--yes")
	volumes := c.readJSON(t, "volumes", "list")
	attached := []any{valueAt(volumes, 0, "attached_machine_id"), valueAt(volumes, 1, "attached_machine_id")}
	if ids := c.ids(); len(ids) != 2 || !slices.Contains(attached, any(ids[0])) || !slices.Contains(attached, any(ids[1])) {
		t.Errorf("machines %s, volumes attached to %v", ids, attached)
	}
}

// TestFlyctl_ScaleAndStatus: flyctl reports the state that flysim has.
func TestFlyctl_ScaleAndStatus(t *testing.T) {
	c := newCLI(t, newSlowSim())
	c.createApp(t, webToml)
	c.runCommand(t, deployOf("1")...)
	c.runCommand(t, "scale", "count", "3", "--yes")
	eventually(t, "scaled up", c.machines, []string{"app started 1", "app started 1", "app started 1"})
	for what, got := range map[string]any{
		"status":       len(valueAt(c.readJSON(t, "status"), "Machines").([]any)),
		"machine list": len(c.readJSON(t, "machine", "list").([]any)),
		"scale show":   int(valueAt(c.readJSON(t, "scale", "show"), 0, "Count").(float64)),
	} {
		if got != 3 {
			t.Errorf("%s: %v machines", what, got)
		}
	}
	if r := c.readJSON(t, "releases"); valueAt(r, 0, "Status") != "complete" || valueAt(r, 0, "ImageRef") != "registry.fly.io/shop:1" {
		t.Errorf("releases %v", r)
	}
	if ips := c.readJSON(t, "ips", "list"); len(ips.([]any)) != 2 {
		t.Errorf("addresses %v", ips) // created by the first deploy: v6 and shared v4
	}
	if out := c.runCommand(t, "config", "show"); !strings.Contains(out, `"path": "/health"`) {
		t.Errorf("config %s", out)
	}
	c.runCommand(t, "scale", "count", "2", "--yes")
	eventually(t, "scaled down", c.machines, []string{"app started 1", "app started 1"})
	wantStrings(t, "no release is needed to scale", c.releases(), []string{"1 complete"})
	c.runCommand(t, "apps", "destroy", "shop", "--yes")
	if code, out := c.tryCommand(t, "status", "--app", "shop"); code != 1 || !strings.Contains(out, "Could not find App") {
		t.Errorf("destroyed: exit %d\n%s", code, out)
	}
}

// TestFlyctl_Secrets: staged secrets are set by the next deploy, others at
// once, with a Fly release.
func TestFlyctl_Secrets(t *testing.T) {
	runner := &servers{}
	c := newCLI(t, &flysim.Sim{Runner: runner, CheckEvery: 50 * time.Millisecond})
	known := func() (out []string) {
		for _, id := range c.ids() {
			out = append(out, fmt.Sprint(runner.proc(id).instance.Secrets))
		}
		return out
	}
	status := func() (out []string) {
		for _, s := range c.readJSON(t, "secrets", "list").([]any) {
			out = append(out, fmt.Sprint(valueAt(s, "name"), " ", valueAt(s, "status")))
		}
		return out
	}
	c.createApp(t, webToml)
	c.runCommand(t, deployOf("1")...)
	c.runCommand(t, "secrets", "set", "A=1", "B=2", "--stage")
	wantStrings(t, "staged", status(), []string{"A Staged", "B Staged"})
	wantStrings(t, "staged, to machines", known(), []string{"map[]", "map[]"})
	c.runCommand(t, deployOf("2")...)
	wantStrings(t, "deployed", status(), []string{"A Deployed", "B Deployed"})
	wantStrings(t, "deployed, to machines", known(), []string{"map[A:1 B:2]", "map[A:1 B:2]"})
	c.runCommand(t, "secrets", "unset", "A", "--stage")
	c.runCommand(t, "secrets", "deploy", "--dns-checks=false")
	wantStrings(t, "unset", status(), []string{"B Deployed"})
	wantStrings(t, "unset, to machines", known(), []string{"map[B:2]", "map[B:2]"})
	wantStrings(t, "releases", c.releases(), []string{"1 complete", "2 complete", "3 complete"})
	wantStrings(t, "machines", c.machines(), []string{"app started 2", "app started 2"})
}

// TestFlyctl_Machines: a machine is stopped, started, cordoned, leased by
// another owner and destroyed.
func TestFlyctl_Machines(t *testing.T) {
	c := newCLI(t, newSlowSim())
	c.createApp(t, webToml)
	c.runCommand(t, deployOf("1", "--ha=false")...)
	id := c.ids()[0]
	now := func() fly.Machine { return c.sim.Machines("shop")[0] }
	c.runCommand(t, "machine", "stop", id, "--wait-timeout", "10s")
	if s := now().State; s != "stopped" {
		t.Errorf("stopped, and it is %s", s)
	}
	c.runCommand(t, "machine", "start", id)
	eventually(t, "started", c.machines, []string{"app started 1"})
	c.runCommand(t, "machine", "cordon", id)
	if !now().Cordoned {
		t.Error("not cordoned")
	}
	c.runCommand(t, "machine", "uncordon", id)
	if now().Cordoned {
		t.Error("still cordoned")
	}
	if code, lease := request(t, c.sim, "POST", "/v1/apps/shop/machines/"+id+"/lease?ttl=60", ""); code != 201 {
		t.Fatal(code, lease)
	}
	if out := c.runCommand(t, "machine", "leases", "view", id); !strings.Contains(out, c.sim.Leases("shop")[id].Nonce) {
		t.Errorf("leases %s", out)
	}
	c.runCommand(t, "machine", "leases", "clear", id)
	c.runCommand(t, "machine", "run", "registry.fly.io/shop:7", "--app", "shop", "--name", "console")
	if out := c.runCommand(t, "status"); !strings.Contains(out, "aren't part of Fly Launch") {
		t.Errorf("status %s", out)
	}
	c.runCommand(t, "machine", "destroy", id, "--force")
	eventually(t, "destroyed", c.machines, []string{" started 7"})
}

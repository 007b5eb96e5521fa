package cli

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

// TestCommands_ReleasesOfOneProject releases one project repeatedly with the real
// commands, workflows and activities, a real Temporal and a simulated Fly.
func TestCommands_ReleasesOfOneProject(t *testing.T) {
	w := newFixture(t)
	w.want(ExitOK, []string{"list"}, "no releases")
	w.want(ExitOK, []string{"status"}, "staging", "api: no machines in shop-staging-api")
	w.want(ExitOK, []string{"plan", "--to", "staging"}, "create", "to be built")
	w.want(ExitFailed, []string{"watch", "4f2d"}, `no release "4f2d"`)

	first := w.promoteFirst()
	w.checkReads(first)
	w.reject()
	w.abort()
	w.approveWithoutWorker()
	w.failInProduction()
	w.rollBack()
	w.approveStalePlan()
	w.startOnTerminal()
	w.resolveHeld()
	w.abandonHeld()
	w.terminateRelease()
}

// promoteFirst releases to production, with one approval at a terminal.
func (w *fixture) promoteFirst() string {
	t := w.t
	id := w.Git("rev-parse", "HEAD")[:12]
	r := w.want(ExitOK, []string{"start", "--by", "Bob"}, "started: "+id+" Sell things to staging, then production", "release watch "+id)
	if strings.TrimSpace(r.stdout) != id {
		t.Errorf("scripts get %q, want the release's name", r.stdout)
	}
	watch := w.startCommand("watch", id)
	watch.waitFor("production waits for 1 approval")

	w.want(ExitOK, []string{"start"}, "attached to "+id)
	w.want(ExitOK, []string{"start", "--to", "staging"}, id) // the release passes staging first
	w.want(ExitFailed, []string{"start", "--app", "api"}, "it releases all apps, not api")
	w.want(ExitFailed, []string{"approve", id[:6], "--yes", "--plan", "ffffffffffff"}, "not with ffffffffffff")
	w.want(ExitFailed, []string{"resolve", id, "retry"}, "is not held: it is awaiting approval")
	if s := w.status(id); s.Phase != "awaiting approval" || s.By != "Bob" || s.Plan == nil || len(s.Environments) != 2 || s.Environments[0].Outcome != "promoted" {
		t.Errorf("status --json says %+v", s.Status)
	}

	atTerminal := func(answer string) func(*World) {
		return func(e *World) { e.Terminal.CanAsk, e.Stdin = true, strings.NewReader(answer) }
	}
	w.startCommandIn(atTerminal("\n"), "approve", id).wait().want(t, ExitFailed, "Approve plan ", "for production, as Ada? [y/N]", "not approved")
	answer, say := io.Pipe()
	late := w.startCommandIn(func(e *World) { e.Terminal.CanAsk, e.Stdin = true, answer }, "approve", id)
	late.waitFor("[y/N]")
	w.startCommandIn(atTerminal("y\n"), "approve", "HEAD").wait().want(t, ExitOK,
		"No release of this program runs there yet", "create 2 machines of api", "LEVEL=info", "In staging: promoted, verified ", "api/staging: healthy", "approved by Ada: plan ")
	fmt.Fprintln(say, "n")
	late.wait().want(t, ExitOK, "none was given; approved by Ada meanwhile")
	watch.wait().want(t, ExitOK, "test ", "built api", "staging: promoted", "approved by Ada", "promoted: shop "+id, "history events", "http://127.0.0.1:8233/namespaces/default/workflows/release%2Fshop%2F"+id)
	w.want(ExitFailed, []string{"approve", id, "--yes"}, "is over: promoted")
	w.want(ExitFailed, []string{"abort", id}, "is over already: promoted")
	return id
}

// checkReads checks the read-only commands.
func (w *fixture) checkReads(id string) {
	w.want(ExitOK, []string{"status"}, "staging\n  ✓ api "+id, "production\n  ✓ api "+id, "2 machines, by release/shop/"+id)
	w.want(ExitOK, []string{"list"}, "✓  "+id+"  promoted", "Bob", "Sell things")
	w.want(ExitOK, []string{"list", "--all", "--json"}, `"outcome": "promoted"`)
	w.want(ExitOK, []string{"status", id}, "Time\n", "approved by Ada", "$0.00")
	w.want(ExitOK, []string{"watch", "release/shop/" + id[:5]}, "promoted: shop "+id)
	if r := w.want(ExitOK, []string{"logs", id, "test"}, "== test"); r.stdout != "looks good\n" {
		w.t.Errorf("logs writes %q", r.stdout)
	}
	w.want(ExitOK, []string{"logs", id, "build", "api", "--json"}, `"whole": true`, "building api")
	w.want(ExitFailed, []string{"logs", id, "build", "web"}, "no output")
	w.want(ExitOK, []string{"open", id, "--print"}, "/workflows/release%2Fshop%2F"+id)
	w.want(ExitOK, []string{"start", "--wait"}, "unchanged: shop "+id)
}

// reject checks that a rejected release stops without a change.
func (w *fixture) reject() {
	id := w.commitLevel("debug")
	w.want(ExitOK, []string{"plan", "--to", "production"}, "env.LEVEL: info → debug", "to be built")
	start := w.startCommand("start", "--wait", "--json")
	start.waitFor("production waits for 1 approval")
	w.want(ExitOK, []string{"reject", id, "--reason", "not on a Friday"}, "rejected by Ada")
	start.wait().want(w.t, ExitFailed, `"outcome": "stopped"`, "not on a Friday")
}

// abort checks that a release aborted before its first change in production stops.
func (w *fixture) abort() {
	id := w.commitLevel("trace")
	detached := w.startCommand("start", "--wait")
	detached.waitFor("production waits for 1 approval")
	detached.interrupt()
	detached.wait().want(w.t, ExitDetached, "detached: the release continues; `release watch "+id)
	w.want(ExitFailed, []string{"abort", id, "--wait"}, "aborting "+id, "stopped: shop "+id)
	w.want(ExitFailed, []string{"abort", id}, "is over already: stopped")
}

// approveWithoutWorker checks that an approval is sent as a signal.
func (w *fixture) approveWithoutWorker() {
	id := w.commitLevel("warn")
	start := w.startCommand("start", "--wait")
	start.waitFor("production waits for 1 approval")
	plan := w.status(id).Plan
	if plan == nil {
		w.t.Fatal("no plan to approve")
	}
	w.stopWorker()
	w.want(ExitOK, []string{"status", id}, "no worker answers", "awaiting approval")
	w.want(ExitFailed, []string{"approve", id, "--yes"}, "no worker answers")
	w.want(ExitOK, []string{"approve", id, "--yes", "--plan", plan.ShortHash(), "--by", "Bob"}, "was left as the signal approve")
	w.startWorker()
	start.wait().want(w.t, ExitOK, "approved by Bob", "promoted: shop "+id)
}

// failInProduction releases a version whose machines never pass their checks.
func (w *fixture) failInProduction() {
	id := w.commitLevel("none")
	start := w.startCommand("start", "--wait")
	start.waitFor("production waits for 1 approval")
	w.sim.Inject(flysim.Fault{Route: "POST /v1/apps/{app}/machines/{id}", Times: 1, Effect: flysim.NeverPasses})
	w.want(ExitOK, []string{"approve", id, "--yes"}, "1 commit since ", "Log none", "env.LEVEL: warn → none", "update 2 machines of api, 1 at a time")
	start.wait().want(w.t, ExitRolledBack, "production: rolling back", "rolled back: shop "+id, "Why\n", "check ")
}

// approveStalePlan changes a machine while the plan waits. approve prints that the plan
// was not executed, and which plan waits now.
func (w *fixture) approveStalePlan() {
	id := w.commitLevel("stale")
	start := w.startCommand("start", "--wait")
	start.waitFor("production waits for 1 approval")
	before := w.status(id).Plan.ShortHash()
	at := fly.Client{FlapsURL: "http://fly", APIURL: "http://fly", UIEXURL: "http://fly", HTTP: &http.Client{Transport: w.sim.Transport()}}
	m := w.sim.Machines("shop-production-api")[0]
	if _, err := at.Update(w.t.Context(), "shop-production-api", m.ID, fly.Update{Config: []byte(strings.Replace(string(m.Config), `"LEVEL":"`, `"LEVEL":"by hand `, 1))}); err != nil {
		w.t.Fatal(err)
	}
	w.want(ExitPerson, []string{"approve", id, "--yes"}, "approved by Ada: plan "+before, "no longer fits what Fly runs, and was not executed", "production asks again, with plan ", "release approve "+id)
	s := w.status(id)
	if s.Gate == nil || s.Plan.ShortHash() == before || len(s.Gate.Approved) != 0 {
		w.t.Errorf("after a stale plan it waits with %+v", s.Gate)
	}
	w.want(ExitOK, []string{"approve", id, "--yes"}, "by hand", "approved by Ada")
	start.wait().want(w.t, ExitOK, "promoted: shop "+id)
}

// rollBack restores the state of production before its last release.
func (w *fixture) rollBack() {
	w.sim.SetSecrets("shop-production-api", map[string]string{"API_KEY": "secret"})
	w.want(ExitOK, []string{"status", "production"}, "back to ", " taken away\n", "unknown whether it still exists: ", "closed rollouts are kept for")
	start := w.startCommand("rollback", "production", "--wait")
	start.waitFor("production waits for 1 approval")
	w.want(ExitOK, []string{"rollback", "production"}, "attached to rollback-production")
	w.want(ExitFailed, []string{"rollback", "production", "--to", w.Git("rev-parse", "HEAD")}, "no history tells what")
	w.want(ExitOK, []string{"approve", "rollback-production", "--yes"}, "approved by Ada")
	start.wait().want(w.t, ExitOK, "restored: shop rollback-production back to ")
	// flyctl config show prints the restored config.
	at := fly.Client{FlapsURL: "http://fly", APIURL: "http://fly", UIEXURL: "http://fly", HTTP: &http.Client{Transport: w.sim.Transport()}}
	app, err := at.App(w.t.Context(), "shop-production-api")
	if err != nil || !strings.Contains(string(app.Definition), `"LEVEL":"info"`) {
		w.t.Errorf("Fly is told that this is released again: %s (%v)", app.Definition, err)
	}
	w.want(ExitOK, []string{"status", "production"}, "production is pinned since ", "rolled back to ", "release unpin production --reason", "refused: production, as it was before ")
	w.want(ExitOK, []string{"status"}, "production is pinned since ")
	w.want(ExitOK, []string{"unpin", "production", "--reason", "the next release mends it"})
}

// resolveHeld makes a rollback fail until the operator keeps the machines.
func (w *fixture) resolveHeld() {
	id := w.commitLevel("odd")
	start := w.startCommand("start", "--wait")
	start.waitFor("production waits for 1 approval")
	const update = "POST /v1/apps/{app}/machines/{id}"
	w.sim.Inject(flysim.Fault{Route: update, Times: 1, Effect: flysim.NeverPasses})
	w.sim.Inject(flysim.Fault{Route: update, Status: 422, Body: `{"error":"no such image any more"}`})
	w.want(ExitOK, []string{"approve", id, "--yes"})
	start.wait().want(w.t, ExitPerson, "held, needs a resolution", "no such image any more", "release resolve "+id+" keep")
	w.want(ExitUsage, []string{"resolve", id, "rollback"}, `"rollback" does not apply now: must be one of retry, keep, abandon`)
	w.want(ExitPerson, []string{"watch", id}, "held, needs a resolution")
	for n := range 2 { // the same user and choice: each is a new attempt
		w.want(ExitPerson, []string{"resolve", id, "retry"}, "retry, by Ada", id+" is held again: the baseline could not be restored")
		if s := w.status(id); s.Held == nil || s.Held.Number != n+2 {
			w.t.Errorf("after %d retries: %+v", n+1, s.Held)
		}
	}
	w.want(ExitOK, []string{"resolve", id, "keep", "--reason", "it is replaced by hand"}, "keep, by Ada", id+" is over: kept")
	w.sim.ClearFaults()
	w.want(ExitPerson, []string{"watch", id}, "kept: shop "+id)
}

// abandonHeld abandons a rollout between plan and baseline.
func (w *fixture) abandonHeld() {
	id := w.commitLevel("lost")
	start := w.startCommand("start", "--wait", "--by", "Bob")
	start.waitFor("production waits for 1 approval")
	const update = "POST /v1/apps/{app}/machines/{id}"
	w.sim.Inject(flysim.Fault{Route: update, Times: 1, Effect: flysim.NeverPasses})
	w.sim.Inject(flysim.Fault{Route: update, Status: 422, Body: `{"error":"no such image any more"}`})
	w.want(ExitOK, []string{"approve", id, "--yes"})
	start.wait().want(w.t, ExitPerson, "release resolve "+id+" abandon")
	w.want(ExitOK, []string{"resolve", id, "abandon", "--reason", "the app is retired"}, "abandon, by Ada")
	w.sim.ClearFaults()
	w.want(ExitPerson, []string{"watch", id}, "stranded: shop "+id, "Why")
	w.want(ExitOK, []string{"list"}, "✗  "+id, "stranded")
	w.want(ExitOK, []string{"status", id, "--json"}, `"failed": "`)
}

// terminateRelease terminates a release while its rollout changes machines. The rollout
// rolls back, and the commands show that outcome.
func (w *fixture) terminateRelease() {
	id := w.commitLevel("cut")
	start := w.startCommand("start", "--wait")
	start.waitFor("production waits for 1 approval")
	const app, update = "shop-production-api", "POST /v1/apps/{app}/machines/{id}"
	before := w.sim.Machines(app)
	endFault := w.sim.Inject(flysim.Fault{Route: update, App: app, Machine: before[1].ID, Status: 503})
	w.want(ExitOK, []string{"approve", id, "--yes"})
	for w.sim.Machines(app)[0].InstanceID == before[0].InstanceID && w.t.Context().Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if err := w.client.TerminateWorkflow(w.t.Context(), "release/shop/"+id, "", "by mistake"); err != nil {
		w.t.Fatal(err)
	}
	start.wait()
	endFault()
	for w.run("watch", "rollout/shop/production").code == ExitDetached {
	}
	const why = "was terminated by release@ada: by mistake; its rollout of production continued and ended: rolled back"
	w.want(ExitRolledBack, []string{"watch", id}, "rolled back: shop "+id, why)
	w.want(ExitOK, []string{"status", id}, "rolled back: shop "+id, "production: rolled back", why)
	w.want(ExitOK, []string{"show", id}, "rolled back: shop "+id)
	w.waitForList(`↩  ` + id + ` +rolled back`)

	id = w.commitLevel("early") // it had changed nothing there
	start = w.startCommand("start", "--wait")
	start.waitFor("production waits for 1 approval")
	if err := w.client.TerminateWorkflow(w.t.Context(), "release/shop/"+id, "", "by mistake"); err != nil {
		w.t.Fatal(err)
	}
	start.wait()
	w.want(ExitFailed, []string{"watch", id}, "stopped: shop "+id, "was terminated by release@ada: by mistake; its rollout of staging had ended before: promoted")
	w.waitForList(`✗  ` + id + ` +stopped`)
}

// waitForList waits until release list, which is delayed, has a line that matches.
func (w *fixture) waitForList(line string) {
	w.t.Helper()
	var r result
	for range 100 {
		if r = w.run("list"); regexp.MustCompile(line).MatchString(r.stdout) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Errorf("missing %q in %v", line, r)
}

// startOnTerminal checks that the block on a terminal updates in place.
func (w *fixture) startOnTerminal() {
	id := w.commitLevel("drawn")
	terminal := func(e *World) {
		e.Terminal.Stderr, e.Terminal.Size = true, func(io.Writer) (int, int) { return 90, 30 }
		e.Env = append(e.Env, "TERM=xterm")
	}
	start := w.startCommandIn(terminal, "start", "--to", "staging", "--wait")
	r := start.wait()
	r.want(w.t, ExitOK, "\x1b[", "A\x1b[J", "\x1b[32m✓\x1b[0m staging: ", "promoted: shop "+id)
	if strings.Contains(r.stdout, "\x1b") {
		w.t.Error("colours go to a file")
	}
}

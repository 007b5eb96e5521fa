package sim_test

import (
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/microbima/release/internal/overlay"
)

var (
	mutantCount = flag.Int("mutants", 2, "how many mutants Mutants tries, from one that -base names; 0: all of them, as -v does")
	patience    = flag.Int("patience", 2000, "within how many seeds a mutant has to be caught")
)

// A mutant is this program with one fault added.
type mutant struct {
	name    string
	changes []overlay.Change
}

func wrong(name, file, old, new string) mutant {
	return mutant{name, []overlay.Change{{File: file, Old: old, New: new}}}
}

// mutants lists faults that a developer could add by mistake. Each breaks a guarantee,
// and Seeds or Cases must find each.
var mutants = []mutant{
	wrong("an update skips the compare-and-set", "fly/driver/apply.go",
		`		if s.Version != "" && m.InstanceID != s.Version {
			return release.Machine{}, versionConflict(s, m)
		}
		m, err = r.changeUnderLease(`,
		`		m, err = r.changeUnderLease(`),
	wrong("a create is sent again blindly", "fly/driver/create.go",
		`	find := func(ctx context.Context) (fly.Machine, error) { return findByName(ctx, r.Fly, s.FlyApp, s.Machine) }`,
		`	find := func(ctx context.Context) (fly.Machine, error) { return fly.Machine{}, fly.ErrNotFound }`),
	wrong("its own update is not recognized", "fly/driver/describe.go",
		`	return release.SameConfig(m.Config, want) && release.SameStamps(m.Config, want) &&`,
		`	return m.State == "nowhere" && release.SameStamps(m.Config, want) &&`),
	wrong("an update that was not sent counts as done", "fly/driver/apply.go",
		`	if !done {
		if s.Version`,
		`	if s.Exact && !done {
		if s.Version`),
	wrong("an answer that was lost is a refusal", "fly/driver/errors.go",
		`	return errors.As(err, &final) || errors.Is(err, fly.ErrTooLong) ||`,
		`	return errors.As(err, &final) || errors.Is(err, fly.ErrTooLong) || errors.Is(err, fly.ErrUnknownOutcome) ||`),
	wrong("a machine that the proxy stopped is waited for", "fly/driver/await.go",
		`	if w.isAsleep(m) {`,
		`	if false {`),
	wrong("started is good enough", "fly/driver/awaited.go",
		`	return m.State == "started" && len(m.Checks) >= release.ChecksIn(w.want) && seen.Healthy()`,
		`	return m.State == "started"`),
	wrong("each attempt runs the release command", "fly/driver/command.go",
		`	if r.Retries > 0 {`,
		`	if attempt := attemptOf(ctx).Number; attempt > 1 {
		c.name = fmt.Sprintf("%s-%d", c.name, attempt)
	}
	if r.Retries > 0 {`),
	wrong("a worker that comes back late stops the command", "fly/driver/command.go",
		`m.ID != "" && a.Aborted(ctx) {`,
		`m.ID != "" {`),
	wrong("the lease of somebody else is taken over", "fly/driver/leases.go",
		`	case held.Description == l.holder:
		return l.fly.Lease(`,
		`	case held.Description != "":
		return l.fly.Lease(`),
	wrong("a look that fails counts as healthy", "fly/driver/verify.go",
		`		v.Failures = []release.Failure{{Target: v.Target, Reason: "could not be read: " + err.Error()}}
		return v`,
		`		v.Health = release.Healthy
		return v`),
	wrong("nobody looks for as long as it bakes", "fly/driver/verdict.go",
		`	t := &verdictTracker{during: in.For, within: in.Within}`,
		`	t := &verdictTracker{within: in.Within}`),
	wrong("unknown is healthy", "workflows/roller.go",
		`		if !has(verdicts, release.Unknown) {
			return nil
		}`,
		`		if len(verdicts) >= 0 {
			return nil
		}`),
	wrong("what is there is not verified", "workflows/rollout.go",
		`	if err := r.verify(ctx); err != nil {
		return r.orLost(err)
	}
	return r.orLost(r.bake(ctx))`,
		`	return nil`),
	wrong("a plan that no longer fits is carried out", "workflows/rollout.go",
		`	if why := in.Plan.Stale(start.States); why != "" {`,
		`	if why := in.Plan.Stale(start.States); why == "never" {`),
	wrong("the way back does not wait for a machine that was just made", "fly/driver/create.go",
		`	r.waitForCreated(ctx, createdWait, find)
	return after, err`,
		`	return after, err`),
	wrong("a machine that a terminated rollout made counts as one that serves", "activities/plan_rollout.go",
		`	return release.SetApart(before.Plan, before.Baselines, before.States, states), nil`,
		`	return states, nil`),
	wrong("a machine of the old version is started for a look at the new one", "release/verdict.go",
		`		if s.Verb != Create && s.Verb != Update {
			continue
		}
		if all`,
		`		if all`),
	wrong("a cordoned machine that ran is not started for a look", "release/verdict.go",
		`(!m.Cordoned || m.Running())`,
		`!m.Cordoned`),
	wrong("a takeover that could not lease leaves the leases of the rollout before", "workflows/baseline.go",
		`own.Nonce != "" && `,
		``),
	wrong("a look before the update counts", "workflows/baseline.go",
		`			delete(ids, s.Machine)`,
		`			continue`),
	wrong("an abort ends the way back", "workflows/rollout.go",
		`	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if !r.begun &&`,
		`	ctx, done := workflow.WithCancel(ctx)
	defer done()
	if !r.begun &&`),
	wrong("nobody looks whether the baseline is back", "workflows/rollout.go",
		`		failed = append(failed, r.carryOut(ctx, wave, false), r.settle(ctx, back.Plan, i))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return r.mustBeBack(ctx)`,
		`		failed = append(failed, r.carryOut(ctx, wave, true), r.settle(ctx, back.Plan, i))
	}
	return nil`),
	wrong("an app is forgotten in the rollback", "workflows/roller.go",
		`		Environment: r.in.Plan.Environment, Baselines: r.baselines, Goals:`,
		`		Environment: r.in.Plan.Environment, Baselines: r.baselines[min(1, len(r.baselines)-1):], Goals:`),
	wrong("leases stay", "workflows/open.go",
		`Holder: r.holder(), Machines: r.leases.machines, Releases:`,
		`Holder: r.holder(), Machines: nil, Releases:`),
	wrong("the machine of a release command stays", "workflows/open.go",
		`Commands: r.commanded(), Status: "failed",`,
		`Status: "failed",`),
	wrong("Fly releases stay running", "workflows/open.go",
		`Releases: r.opened.Releases, Commands:`,
		`Releases: nil, Commands:`),
	wrong("a decision for another plan counts", "workflows/gate.go",
		`	case r.status.Plan == nil || !r.status.Plan.IsNamed(review.Plan):`,
		`	case r.status.Plan == nil:`),
	wrong("one of two approvals is enough", "workflows/gate.go",
		`len(r.status.Gate.Approved) >= r.status.Gate.Approvals`,
		`len(r.status.Gate.Approved) > 0`),
	wrong("the same person counts twice", "workflows/gate.go",
		`	if err == nil && approve && slices.Contains(r.status.Gate.Approved, review.By) {`,
		`	if err == nil && approve && slices.Contains(r.status.Gate.Approved, "nobody") {`),
	wrong("silence is consent", "workflows/gate.go",
		`		return fmt.Errorf("%w on %s within %s", release.ErrGateExpired, env.Name, gate.Timeout)`,
		`		return nil`),
	wrong("a no is not heard", "workflows/gate.go",
		`		r.rejected = &decision
`,
		``),
	wrong("more machines at once than allowed", "release/strategy.go",
		`Lanes: []Lane{{AtOnce: max(1, atOnce), Steps: steps}}`,
		`Lanes: []Lane{{AtOnce: max(len(steps), atOnce), Steps: steps}}`),
	wrong("blue is cordoned before green has traffic", "release/strategy.go",
		`		settle(wave("uncordon green", show, len(show)), proxyLearns),
		settle(wave("cordon blue", hide, len(hide)), proxySettles),`,
		`		settle(wave("cordon blue", hide, len(hide)), proxySettles),
		settle(wave("uncordon green", show, len(show)), proxyLearns),`),
	wrong("blue is destroyed before green is verified", "release/strategy.go",
		`		lasting(wave("destroy blue", destroy, coldAtOnce)),`,
		`		wave("destroy blue", destroy, coldAtOnce),`),
	wrong("needs are ignored", "release/plan.go",
		`first < len(specs) && specs[first].Level <= level; first++`,
		`first < len(specs) && specs[first].Level <= level+9; first++`),
	wrong("a rollback starts what was stopped", "release/restore.go",
		`		Exact: true, Idle: !want.Running(), Unchecked: !want.Healthy(), Wait: b.Wait,
	}
}

func (b Baseline) recreate`,
		`		Exact: true, Unchecked: !want.Healthy(), Wait: b.Wait,
	}
}

func (b Baseline) recreate`),
	wrong("a rollback leaves cordons", "release/restore.go",
		`		if have.Cordoned && !want.Cordoned {`,
		`		if have.Cordoned && !want.Cordoned && want.Name == "" {`),
	wrong("a rollback keeps what is new", "release/restore.go",
		`			destroy = append(destroy, Step{Verb: Destroy,`,
		`			_ = append(destroy, Step{Verb: Destroy,`),
	wrong("the older of two pushes goes over the newer", "workflows/rollout.go",
		`	if in.Plan.Lineage.Relation == release.Backward {`,
		`	if in.Plan.Lineage.Relation == "never" {`),
	wrong("null is a config", "fly/machine.go",
		`	if string(bytes.TrimSpace(doc)) == "null" {`,
		`	if string(bytes.TrimSpace(doc)) == "never" {`),
	wrong("a stale read is believed", "fly/machine.go",
		`{ return OlderVersion(m.InstanceID, version) }`,
		`{ return m.InstanceID == "never" && OlderVersion(m.InstanceID, version) }`),
	wrong("exits that nobody asked for do not count", "release/exit.go",
		`	if m.Exit == nil || m.Rests() {`,
		`	if m.Exit == nil || m.Rests() || m.State == "started" {`),
	wrong("nobody starts what sleeps for a look", "release/verdict.go",
		`			if i < 0 {
				continue
			}
			m := goal.Machines[i]`,
		`			if i < 0 || len(goal.Machines) > 0 {
				continue
			}
			m := goal.Machines[i]`),
	wrong("what never ran is healthy", "release/verdict.go",
		`	if unproved {
		return Unchecked, notes, idle
	}`,
		`	if unproved && len(notes) == 0 {
		return Unchecked, notes, idle
	}`),
	wrong("a baseline without machines is one to go back to", "activities/find_baseline.go",
		`		case len(b.State.Machines) == 0:
			empty`,
		`		case len(b.State.Machines) < 0:
			empty`),
	wrong("a rollout that was terminated has changed nothing", "workflows/releaser.go",
		`		if keepsPlace = isUnreported(err); keepsPlace {`,
		`		if keepsPlace = isUnreported(err) && err == nil; keepsPlace {`),
	wrong("the baseline is what a terminated rollout left", "workflows/baseline.go",
		`		r.baselines = release.Resumed(before.Baselines, before.Plan.Goal(before.States), r.baselines)
`,
		``),
	wrong("what a terminated rollout changed is not looked at", "workflows/baseline.go",
		`	if r.settles == "" {
		return nil
	}
	return`,
		`	if r.settles != "never" {
		return nil
	}
	return`),
	wrong("a second rollback goes forward", "activities/past_search.go",
		`		s.until = report.Restores
		return nil, nil`,
		`		past.Baselines, past.Text = report.Before, "as it was before"`),
	wrong("values are cut before they are compared", "internal/view/diff.go",
		`had && has && old == now:`,
		`had && has && fmt.Sprintf("%.80v", old) == fmt.Sprintf("%.80v", now):`),
	wrong("white space is no difference", "internal/view/diff.go",
		`had && has && old == now:`,
		`had && has && strings.Join(strings.Fields(fmt.Sprint(old)), " ") == strings.Join(strings.Fields(fmt.Sprint(now)), " "):`),
	wrong("control characters reach the screen", "internal/view/escape.go",
		`	if !needsEscape(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {`,
		`	if !needsEscape(text) || len(text) > 0 {
		return text
	}
	var b strings.Builder
	for i, r := range text {`),
	wrong("what was sick has to be well to go back", "workflows/roller.go",
		`		for i, m := range goal.Machines {
			if !m.Healthy() {
				goal.Machines[i].State = ""
			}
		}
		expected := activities.Expectation`,
		`		expected := activities.Expectation`),
	wrong("what is taken out of service has to be well", "workflows/roller.go",
		`|| s.Verb != release.Cordon && s.Verb != release.Stop && s.Verb != release.Destroy`,
		`|| s.Verb != ""`),
	wrong("the leases of a rollout that has ended keep the next one out", "fly/driver/leases.go",
		`	return ours && attemptOf(ctx).RunEnded(ctx, run)`,
		`	return ours && !attemptOf(ctx).RunEnded(ctx, run)`),
	wrong("a rollback goes back to before an older rollout", "activities/find_baseline.go",
		`	for _, run := range runs {
		past, err := s.visit(ctx, run)`,
		`	for _, run := range runs[min(1, len(runs)/2):] {
		past, err := s.visit(ctx, run)`),
	wrong("a rollback says promoted", "workflows/roller.go",
		`		return release.Restored`,
		`		return release.Promoted`),
	wrong("what nothing checks is healthy", "release/verdict.go",
		`		return Unchecked, append([]string{"nothing checks it"}, notes...)`,
		`		return Healthy, append([]string{"nothing checks it"}, notes...)`),
	wrong("exits of what has no check do not count", "release/exit.go",
		`	if m.Exit == nil || m.Rests() {`,
		`	if m.Exit == nil || m.Rests() || ChecksIn(m.Config) == 0 && m.State == "started" {`),
	wrong("a probe that failed before has to be answered to go back", "workflows/roller.go",
		`		if b.WasWell() {
			expected.Probe = b.Probe
		}`,
		`		expected.Probe = b.Probe`),
	wrong("nobody keeps which versions were written", "workflows/written.go",
		`	case step.Verb == release.Run, after.ID == "", after.Version == "" && err == nil:`,
		`	case step.Verb != "":`),
	wrong("what was started for a look goes on", "workflows/wake.go",
		`	r.putBack(ctx, started)`,
		`	r.putBack(ctx, nil)`),
	wrong("what a terminated rollout started for a look goes on", "activities/wake.go",
		`	in.Woken = append(in.Woken, wake)`,
		`	in.Woken = append(in.Woken, wake)[:0]`),
	wrong("what a terminated release left is not looked at", "activities/read_remains.go",
		`	return Remains{Unsettled: before != nil, Left: left}, classify(ctx, err)`,
		`	return Remains{Unsettled: before != nil && len(left) < 0, Left: left[:0]}, classify(ctx, err)`),
	wrong("a person decides without the lock", "workflows/release.go",
		`			err = r.takeOver(ctx, env, err) // nobody knows`,
		`			err = release.ErrPlanStale // nobody knows`),
	wrong("what a terminated rollout left is not cleaned up", "workflows/takeover.go",
		`	r.closeBefore(ctx, left)
`,
		``),
	wrong("an answer counts for the next question", "workflows/held.go",
		`	case a.Hold != 0 && a.Hold != held.Number:`,
		`	case a.Hold < 0:`),
	wrong("a group without machines is filled without a word", "release/unchecked.go",
		`"group %s has no machines: %d are made; to have none, remove %s from [processes] of its fly.toml"`,
		`"group %s: %d of %s"`),
	wrong("a rollout that was terminated leads to no takeover", "workflows/release.go",
		`		for r.isBroken(err) {`,
		`		for r.isBroken(err) && r.broken == nil {`),
	wrong("a takeover forgets the baseline", "workflows/takeover.go",
		`= before.Plan, before.States, before.Baselines, before.Run`,
		`= before.Plan, before.States, nil, before.Run`),
	wrong("a takeover that comes too late asks all the same", "workflows/takeover.go",
		`	if start.Since != nil {
		return r.overtaken`,
		`	if start.Since != nil && start.Unread == "" {
		return r.overtaken`),
	wrong("a history that is lost asks nobody", "release/gate.go",
		`	if a.Unread != "" {`,
		`	if a.Unread == "never" {`),
	wrong("what crashed stays stopped", "release/state.go",
		`m.State == "failed" || m.Crashed }`,
		`m.State == "failed" }`),
	wrong("exits from before a rollout is resumed do not count", "workflows/roller.go",
		`, Resumed: slices.Sorted(maps.Keys(resumed))`,
		``),
	wrong("what once ended again and again never comes back", "release/exit.go",
		`return at.Sub(x.At) < crashLoop }`,
		`return true }`),
	wrong("an older release is asked about for ever", "workflows/rollout.go",
		`	if in.Plan.Lineage.Relation == release.Backward { // the comparison was made for exactly these machines
		return r.superseded(ctx)
	}
	if why := r.unread(start); why != "" {
		return r.stale(ctx, why)
	}`,
		`	if why := r.unread(start); why != "" {
		return r.stale(ctx, why)
	}
	if in.Plan.Lineage.Relation == release.Backward {
		return r.superseded(ctx)
	}`),
	wrong("a rollback speaks of the newest revision", "workflows/goback.go",
		`		source.Revision = restored
`,
		``),
	wrong("what was found unchanged does not count", "activities/runs.go",
		`	return o == release.Promoted || o == release.Restored || o == release.Unchanged`,
		`	return o == release.Promoted || o == release.Restored`),
	wrong("nobody looks under the lock which revision an environment is at", "workflows/order.go",
		`	case permit.Head.Differs(r.in.Head):
		return &staleError{`,
		`	case permit.Head.Differs(r.in.Head) && permit.Head == nil:
		return &staleError{`),
	wrong("a release without changes leaves no trace", "workflows/unchanged.go",
		`	return r.req.Rollback == nil && len(r.req.Apps) == 0 &&`,
		`	return r.req.Rollback == nil && len(r.req.Apps) > 0 &&`),
}

var (
	firstViolation = regexp.MustCompile(`(?m)seed (\d+): (.*)$`)
	failedCase     = regexp.MustCompile(`(?m)^ *--- FAIL: TestCases/(\S+)`)
)

// TestMutantTexts checks that the text that a mutant replaces occurs exactly once in
// its file.
func TestMutantTexts(t *testing.T) {
	for _, m := range mutants {
		if _, err := overlay.Write(t.TempDir(), "..", m.changes...); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// TestMutants checks that the simulation finds the fault of each mutant.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program once for each mutant")
	}
	tried := mutants
	if !testing.Verbose() && *mutantCount > 0 {
		from := int(*base % uint64(len(mutants)))
		tried = slices.Concat(mutants, mutants)[from : from+*mutantCount]
	}
	ran, drawn, kept := 0, 0, 0
	for _, m := range tried {
		t.Run(m.name, func(t *testing.T) {
			ran++
			program := m.build(t)
			// A mutant is caught if its tests fail. Their output names the seed or
			// case.
			seeds := outputOf(program, "-test.run=Seeds", "-seeds", fmt.Sprint(*patience), "-base", "1", "-stop", "-shrink", "0")
			if found := firstViolation.FindStringSubmatch(seeds); found != nil {
				drawn++
				fmt.Printf("%-56s caught by seed %5s: %.120s\n", m.name, found[1], found[2])
				return
			}
			cases := outputOf(program, "-test.run=Cases")
			found := failedCase.FindStringSubmatch(cases)
			if found == nil {
				t.Fatalf("caught neither within %d seeds nor by a case\n%.1000s\n%.1000s", *patience, seeds, cases)
			}
			kept++
			fmt.Printf("%-56s caught by case %s\n", m.name, found[1])
		})
	}
	fmt.Printf("mutants=%d caught=%d (by seeds: %d, by kept cases: %d)\n", ran, drawn+kept, drawn, kept)
}

// build returns the path of this package's test program with the mutant in it.
func (m mutant) build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file, err := overlay.Write(dir, "..", m.changes...)
	if err != nil {
		t.Fatalf("%s: %v", m.name, err)
	}
	program := filepath.Join(dir, "mutant.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", file, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%s does not compile: %v\n%s", m.name, err, out)
	}
	return program
}

// outputOf runs a program and returns what it printed, also if it failed.
func outputOf(program string, args ...string) string {
	out, _ := exec.Command(program, append(args, "-test.timeout=10m")...).CombinedOutput()
	return strings.ToValidUTF8(string(out), "?")
}

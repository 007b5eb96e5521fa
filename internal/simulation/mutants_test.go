package simulation_test

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
	mutantCount = flag.Int("mutants", 2, "number of mutants that Mutants tests, the first selected by -base; 0 means all, as with -v")
	maxSeeds    = flag.Int("patience", 2000, "number of seeds within which a mutant must be caught")
)

// A mutant is this program with one fault added.
type mutant struct {
	name    string
	changes []overlay.Change
}

// newMutant returns a mutant in which the text old of a file is replaced by new.
func newMutant(name, file, old, new string) mutant {
	return mutant{name, []overlay.Change{{File: file, Old: old, New: new}}}
}

// mutants lists faults that a developer could add by mistake. Each breaks a guarantee,
// and Seeds or Cases must find each.
var mutants = []mutant{
	newMutant("an update skips the compare-and-set", "fly/driver/apply.go",
		`		if s.Version != "" && m.InstanceID != s.Version {
			return release.Machine{}, versionConflict(s, m)
		}
		m, err = r.changeUnderLease(`,
		`		m, err = r.changeUnderLease(`),
	newMutant("a create is retried without a check whether it succeeded", "fly/driver/create.go",
		`	find := func(ctx context.Context) (fly.Machine, error) { return findByName(ctx, r.Fly, s.FlyApp, s.Machine) }`,
		`	find := func(ctx context.Context) (fly.Machine, error) { return fly.Machine{}, fly.ErrNotFound }`),
	newMutant("a retry does not recognize its own update", "fly/driver/describe.go",
		`	return m.Config.IsSame(want) && m.Config.Facts().Origin == want.Facts().Origin &&`,
		`	return m.State == "nowhere" && m.Config.Facts().Origin == want.Facts().Origin &&`),
	newMutant("an update that was never sent counts as done", "fly/driver/apply.go",
		`	if !done {
		if s.Version`,
		`	if s.Verbatim && !done {
		if s.Version`),
	newMutant("a lost response counts as a refusal", "fly/driver/errors.go",
		`	return errors.As(err, &final) || errors.Is(err, fly.ErrTooLong) ||`,
		`	return errors.As(err, &final) || errors.Is(err, fly.ErrTooLong) || errors.Is(err, fly.ErrUnknownOutcome) ||`),
	newMutant("a rollout waits for a machine that the proxy stopped", "fly/driver/await.go",
		`	if w.isAsleep(m) {`,
		`	if false {`),
	newMutant("a machine counts as healthy as soon as it is started", "fly/driver/awaited.go",
		`	return m.State == "started" && len(m.Checks) >= w.want.Facts().WantedChecks && seen.IsHealthy()`,
		`	return m.State == "started"`),
	newMutant("each retry runs the release command again", "fly/driver/command.go",
		`	if r.Retries > 0 {`,
		`	if attempt := attemptOf(ctx).Number; attempt > 1 {
		c.name = fmt.Sprintf("%s-%d", c.name, attempt)
	}
	if r.Retries > 0 {`),
	newMutant("a worker that returns late stops the release command", "fly/driver/command.go",
		`m.ID != "" && a.Aborted(ctx) {`,
		`m.ID != "" {`),
	newMutant("the lease of someone else is used", "fly/driver/leases.go",
		`	case held.Description == l.holder:
		return l.fly.Lease(`,
		`	case held.Description != "":
		return l.fly.Lease(`),
	newMutant("a failed read counts as healthy", "fly/driver/verify.go",
		`	if err := d.observeAgain(ctx, e.Goal, &now); err != nil {
		v.Failures = []release.Failure{{Target: v.Target, Reason: "could not be read: " + err.Error()}}
		return v`,
		`	if err := d.observeAgain(ctx, e.Goal, &now); err != nil {
		v.Health = release.Healthy
		return v`),
	newMutant("a bake ends at once", "fly/driver/verdict.go",
		`	t := &verdictTracker{during: in.For, within: in.Within}`,
		`	t := &verdictTracker{within: in.Within}`),
	newMutant("an unknown verdict counts as healthy", "workflows/rollout_run.go",
		`		if !hasHealth(verdicts, release.Unknown) {
			return nil
		}`,
		`		if len(verdicts) >= 0 {
			return nil
		}`),
	newMutant("a rollout is not verified", "workflows/rollout.go",
		`	if err := r.verify(ctx); err != nil {
		return r.preferLeaseError(err)
	}
	return r.preferLeaseError(r.bake(ctx))`,
		`	return nil`),
	newMutant("a stale plan is executed", "workflows/rollout.go",
		`	if err := in.Plan.CheckStale(start.States); err != nil {`,
		`	if err := in.Plan.CheckStale(start.States); err == release.ErrAborted {`),
	newMutant("a rollback does not wait until a new machine is listed", "fly/driver/create.go",
		`	if err != nil {
		r.waitForCreated(ctx, createdWait, find)`,
		`	if err == release.ErrAborted {
		r.waitForCreated(ctx, createdWait, find)`),
	newMutant("a machine that a terminated rollout created counts as serving", "activities/plan_rollout.go",
		`	return release.SeparateLeftovers(before.Plan, before.Baselines, before.States, states, before.Stopped), before.Run, nil`,
		`	return states, before.Run, nil`),
	newMutant("a machine that a terminated rollout stopped is meant to be stopped", "activities/unreported_history.go",
		`		if in.Step.Verb == release.Stop && `,
		`		if in.Step.Verb == release.Run && `),
	newMutant("a machine of the old version is started to verify the new one", "release/verdict.go",
		`		if s.Verb != Create && s.Verb != Update {
			continue
		}
		if all`,
		`		if all`),
	newMutant("a cordoned machine that was running is not started for verification", "release/verdict.go",
		`(!m.Cordoned || m.IsRunning())`,
		`!m.Cordoned`),
	newMutant("a takeover without leases leaves those of the terminated rollout", "workflows/baseline.go",
		`own.Nonce != "" && `,
		``),
	newMutant("a verification before the update counts", "workflows/baseline.go",
		`			delete(ids, s.Machine)`,
		`			continue`),
	newMutant("an abort cancels the rollback", "workflows/rollout.go",
		`	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if !r.hasBegun &&`,
		`	ctx, done := workflow.WithCancel(ctx)
	defer done()
	if !r.hasBegun &&`),
	newMutant("a rollback is not compared with the baseline", "workflows/rollout.go",
		`		failed = append(failed, r.executeWave(ctx, wave, false), r.settleWave(ctx, back.Plan, i))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return r.verifyRestored(ctx)`,
		`		failed = append(failed, r.executeWave(ctx, wave, true), r.settleWave(ctx, back.Plan, i))
	}
	return nil`),
	newMutant("a rollback omits an app", "workflows/rollout_run.go",
		`		Environment: r.in.Plan.Environment, Baselines: r.baselines, Goals:`,
		`		Environment: r.in.Plan.Environment, Baselines: r.baselines[min(1, len(r.baselines)-1):], Goals:`),
	newMutant("leases are not released", "workflows/open.go",
		`Holder: r.leaseHolder(), Machines: r.leases.machines, Releases:`,
		`Holder: r.leaseHolder(), Machines: nil, Releases:`),
	newMutant("the machine of a release command is not destroyed", "workflows/open.go",
		`Commands: r.commandApps(), Status: "failed",`,
		`Status: "failed",`),
	newMutant("Fly releases are not closed", "workflows/open.go",
		`Releases: r.opened.Releases, Commands:`,
		`Releases: nil, Commands:`),
	newMutant("an approval of another plan counts", "workflows/gate.go",
		`	case s.Plan == nil || !s.Plan.MatchesHash(review.Plan):`,
		`	case s.Plan == nil:`),
	newMutant("one of two required approvals is enough", "workflows/gate.go",
		`len(gate.Approved) >= gate.Approvals`,
		`len(gate.Approved) > 0`),
	newMutant("two approvals by the same person count twice", "workflows/gate.go",
		`	if err == nil && approve && slices.Contains(r.status().Gate.Approved, review.By) {`,
		`	if err == nil && approve && slices.Contains(r.status().Gate.Approved, "nobody") {`),
	newMutant("an approval timeout counts as an approval", "workflows/gate.go",
		`		return fmt.Errorf("%w on %s within %s", release.ErrGateExpired, env.Name, gate.Timeout)`,
		`		return nil`),
	newMutant("a rejection is ignored", "workflows/gate.go",
		`		r.rejection = &recorded
`,
		``),
	newMutant("more machines are updated at once than allowed", "release/wave.go",
		`Lanes: []Lane{{MaxConcurrent: max(1, atOnce), Steps: steps}}`,
		`Lanes: []Lane{{MaxConcurrent: max(len(steps), atOnce), Steps: steps}}`),
	newMutant("blue is cordoned before green is uncordoned", "release/bluegreen.go",
		`		withSettle(newWave("uncordon green", show, len(show)), proxyLearnTime),
		withSettle(newWave("cordon blue", hide, len(hide)), proxySettleTime),`,
		`		withSettle(newWave("cordon blue", hide, len(hide)), proxySettleTime),
		withSettle(newWave("uncordon green", show, len(show)), proxyLearnTime),`),
	newMutant("blue is destroyed before green is verified", "release/bluegreen.go",
		`		markIrreversible(newWave("destroy blue", destroy, maxColdConcurrent)),`,
		`		newWave("destroy blue", destroy, maxColdConcurrent),`),
	newMutant("the order of needs is ignored", "release/plan.go",
		`first < len(specs) && specs[first].Level <= level; first++`,
		`first < len(specs) && specs[first].Level <= level+9; first++`),
	newMutant("a rollback starts machines that were stopped", "release/step.go",
		`	s.SkipLaunch = !want.IsRunning()
	s.SkipHealthCheck`,
		`	s.SkipLaunch = s.Verb == Create && !want.IsRunning()
	s.SkipHealthCheck`),
	newMutant("a rollback leaves machines cordoned", "release/restore_steps.go",
		`	case have.Cordoned:`,
		`	case have.Cordoned && want.Name == "":`),
	newMutant("a rollback keeps new machines", "release/restore_steps.go",
		`	r.destroy = append(r.destroy, NewDestroy(on, Config{}))`,
		`	_ = append(r.destroy, NewDestroy(on, Config{}))`),
	newMutant("an older push overwrites a newer one", "workflows/rollout.go",
		`	if in.Plan.Lineage.Relation == release.Backward {`,
		`	if in.Plan.Lineage.Relation == "never" {`),
	newMutant("a null config is not treated as absent", "fly/machine.go",
		`	if string(bytes.TrimSpace(doc)) == "null" {`,
		`	if string(bytes.TrimSpace(doc)) == "never" {`),
	newMutant("a stale read is accepted", "fly/machine.go",
		`{ return OlderVersion(m.InstanceID, version) }`,
		`{ return m.InstanceID == "never" && OlderVersion(m.InstanceID, version) }`),
	newMutant("unasked exits do not count", "release/exit.go",
		`	if m.Exit == nil || m.IsAsleep() {`,
		`	if m.Exit == nil || m.IsAsleep() || m.State == "started" {`),
	newMutant("stopped machines are not started for verification", "release/verdict.go",
		`			if i < 0 {
				continue
			}
			m := goal.Machines[i]`,
		`			if i < 0 || len(goal.Machines) > 0 {
				continue
			}
			m := goal.Machines[i]`),
	newMutant("a machine stays whose replacement a terminated rollout created", "release/resume.go",
		`		out[i].Superseded = isReplaced &&`,
		`		out[i].Superseded = false && isReplaced &&`),
	newMutant("a stale read before a start is believed", "fly/driver/find.go",
		`cmp.Or(r.Written, s.Version)`,
		`s.Version`),
	newMutant("a probe starts a stopped machine", "fly/driver/verify.go",
		`	if isServed {`,
		`	if isServed || e.Probe != nil && isServing(now) {`),
	newMutant("a version that never ran is healthy", "release/verdict.go",
		`	if sum.unproved {
		return Unchecked, sum.notes, sum.idle
	}`,
		`	if sum.unproved && len(sum.notes) == 0 {
		return Unchecked, sum.notes, sum.idle
	}`),
	newMutant("a baseline without machines is restored", "activities/find_baseline.go",
		`		case len(b.State.Machines) == 0:
			empty`,
		`		case len(b.State.Machines) < 0:
			empty`),
	newMutant("a terminated rollout counts as one without changes", "workflows/release_run.go",
		`		if keepsPlace = isUnreported(err); keepsPlace {`,
		`		if keepsPlace = isUnreported(err) && err == nil; keepsPlace {`),
	newMutant("the result of a terminated rollout is the baseline", "workflows/baseline.go",
		`		r.baselines = release.ResumeBaselines(before.Plan, before.Baselines, before.States, r.baselines)
`,
		``),
	newMutant("the changes of a terminated rollout are not verified", "workflows/baseline.go",
		`	if r.predecessorRunID == "" {
		return nil
	}
	return`,
		`	if r.predecessorRunID != "never" {
		return nil
	}
	return`),
	newMutant("a second rollback undoes the first", "activities/past_search.go",
		`		s.until = report.Restores
		return nil, nil`,
		`		past.Baselines, past.Text = report.Before, "as it was before"`),
	newMutant("values are truncated before they are compared", "internal/view/diff.go",
		`had && has && old == now:`,
		`had && has && fmt.Sprintf("%.80v", old) == fmt.Sprintf("%.80v", now):`),
	newMutant("differences in white space are ignored", "internal/view/diff.go",
		`had && has && old == now:`,
		`had && has && strings.Join(strings.Fields(fmt.Sprint(old)), " ") == strings.Join(strings.Fields(fmt.Sprint(now)), " "):`),
	newMutant("control characters are not escaped", "internal/view/escape.go",
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
	newMutant("a rollback requires health of machines that failed before", "workflows/rollout_run.go",
		`		for i, m := range goal.Machines {
			if !m.IsHealthy() {
				goal.Machines[i].State = ""
			}
		}
		expected := activities.Expectation`,
		`		expected := activities.Expectation`),
	newMutant("steps that remove a machine require it to be healthy", "workflows/rollout_run.go",
		`|| s.Verb != release.Cordon && s.Verb != release.Stop && s.Verb != release.Destroy`,
		`|| s.Verb != ""`),
	newMutant("leases of a closed rollout block the next one", "fly/driver/leases.go",
		`	return ours && attemptOf(ctx).RunEnded(ctx, run)`,
		`	return ours && !attemptOf(ctx).RunEnded(ctx, run)`),
	newMutant("a rollback restores the state before an older rollout", "activities/find_baseline.go",
		`	for _, run := range runs {
		past, err := s.visitRun(ctx, run)`,
		`	for _, run := range runs[min(1, len(runs)/2):] {
		past, err := s.visitRun(ctx, run)`),
	newMutant("a rollback reports promoted", "workflows/rollout_run.go",
		`		return release.Restored`,
		`		return release.Promoted`),
	newMutant("a target without checks is healthy", "release/verdict.go",
		`		return Unchecked, append([]string{"nothing checks it"}, sum.notes...)`,
		`		return Healthy, append([]string{"nothing checks it"}, sum.notes...)`),
	newMutant("exits of machines without checks do not count", "release/exit.go",
		`	if m.Exit == nil || m.IsAsleep() {`,
		`	if m.Exit == nil || m.IsAsleep() || m.Config.Facts().WantedChecks == 0 && m.State == "started" {`),
	newMutant("a rollback requires a probe that failed before", "workflows/rollout_run.go",
		`		if b.WasHealthy() {
			expected.Probe = b.Probe
		}`,
		`		expected.Probe = b.Probe`),
	newMutant("written versions are not recorded", "workflows/written.go",
		`	case step.Verb == release.Run, after.ID == "", after.Version == "" && err == nil:`,
		`	case step.Verb != "":`),
	newMutant("machines started for verification are not stopped", "workflows/wake.go",
		`	r.stopMachines(ctx, started)`,
		`	r.stopMachines(ctx, nil)`),
	newMutant("machines that a terminated rollout started are not stopped", "activities/wake.go",
		`	in.VerificationStarts = append(in.VerificationStarts, wake)`,
		`	in.VerificationStarts = append(in.VerificationStarts, wake)[:0]`),
	newMutant("remains of a terminated release are not verified", "activities/read_remains.go",
		`	return Remains{Unsettled: before != nil, ToClose: left}, classifyError(ctx, err)`,
		`	return Remains{Unsettled: before != nil && len(left) < 0, ToClose: left[:0]}, classifyError(ctx, err)`),
	newMutant("a terminated rollout is resolved without the lock", "workflows/release.go",
		`			err = r.takeOver(ctx, env, err) // the state`,
		`			err = release.ErrPlanStale // the state`),
	newMutant("leases of a terminated rollout are not cleaned up", "workflows/takeover.go",
		`	r.cleanUpPredecessor(ctx, left)
`,
		``),
	newMutant("a repeated answer counts for the next question", "workflows/held.go",
		`	case a.Hold != 0 && a.Hold != held.Number:`,
		`	case a.Hold < 0:`),
	newMutant("a group without machines is filled without a warning", "release/unchecked.go",
		`	for _, g := range spec.newGroups(state) {
		warnings`,
		`	for _, g := range spec.newGroups(State{}) {
		warnings`),
	newMutant("a second termination leads to no takeover", "workflows/release.go",
		`		for r.leavesUnsettled(err) {`,
		`		for r.leavesUnsettled(err) && r.unsettled == nil {`),
	newMutant("a takeover loses the baseline", "workflows/takeover.go",
		`= before.Plan, before.States, before.Baselines, before.Run`,
		`= before.Plan, before.States, nil, before.Run`),
	newMutant("a late takeover is held", "workflows/takeover.go",
		`	if start.LaterRollout != nil {
		return r.finishOvertaken`,
		`	if start.LaterRollout != nil && start.UnreadRollout == "" {
		return r.finishOvertaken`),
	newMutant("a lost history requires no approval", "release/gate.go",
		`	if a.UnreadRollout != "" {`,
		`	if a.UnreadRollout == "never" {`),
	newMutant("crashed machines stay stopped", "release/state.go",
		`m.State == "failed" || m.Crashed || m.Halted`,
		`m.State == "failed" || m.Halted`),
	newMutant("exits before a rollout is resumed do not count", "workflows/rollout_run.go",
		`, Resumed: workflow.DeterministicKeys(resumed)`,
		``),
	mutant{"a machine of a resumed bluegreen loses its lease", []overlay.Change{
		{File: "release/bluegreen.go", Old: `cmp.Or(have.ID, green.Machine), g.Name`, New: `cmp.Or(green.Machine, have.ID), g.Name`},
		{File: "release/bluegreen.go", Old: `return s.Machine == m.ID })
		if m.Group`, New: `return s.Machine == m.Name })
		if m.Group`},
		{File: "fly/driver/lease_change.go", Old: `	if isKept(lease) {
		return after, err
	}
`, New: ``},
	}},
	newMutant("a rollback overwrites an unreachable machine that someone else changed", "activities/plan_restore.go",
		`	if m.Host == "" || i < 0 || len(in.Found) > 0 {`,
		`	if m.Host == "" || i >= 0 || len(in.Found) > 0 {`),
	newMutant("a stranded rollout does not name what is left on Fly", "workflows/rollout_run.go",
		`	lines = append(lines, r.status().Notes[noted:]...) // an error has no report with the notes of what is left
`,
		`	_ = noted
`),
	newMutant("a rollback leaves a machine out of service that someone else changed", "release/restore.go",
		`		case exists && want.IsRunning() && have.Host == "" && !have.IsAsleep() && !have.HasCompleted():`,
		`		case exists && len(now.Machines) == 0:`),
	newMutant("a plan from before the end of the previous rollout is used", "workflows/baseline.go",
		`before.Run != r.in.Plan.FollowsRun &&`,
		`before.Run == "none" &&`),
	newMutant("a release plans without the rollout that it follows", "workflows/release_run.go",
		`, PredecessorRun: r.followedRunID(env),
		UnverifiedReasons`,
		`,
		UnverifiedReasons`),
	newMutant("machines of a lost rollout are not verified again", "activities/read_remains.go",
		`Unsettled: unread.LaterRollout == nil`,
		`Unsettled: false`),
	newMutant("an old crash loop prevents every rollback", "release/exit.go",
		`return at.Sub(x.At) < crashLoopWindow }`,
		`return true }`),
	newMutant("an older release is planned again without end", "workflows/rollout.go",
		`	if in.Plan.Lineage.Relation == release.Backward { // the comparison was made for exactly these machines
		return r.finishSuperseded(ctx)
	}
	if err := r.checkPredecessor(start); err != nil {
		return r.finishStale(ctx, err)
	}`,
		`	if err := r.checkPredecessor(start); err != nil {
		return r.finishStale(ctx, err)
	}
	if in.Plan.Lineage.Relation == release.Backward {
		return r.finishSuperseded(ctx)
	}`),
	newMutant("a rollback names the newest revision", "workflows/rollback.go",
		`		source.Revision = restored
`,
		``),
	newMutant("an unchanged rollout is no baseline", "activities/runs.go",
		`	return o == release.Promoted || o == release.Restored || o == release.Unchanged`,
		`	return o == release.Promoted || o == release.Restored`),
	newMutant("the environment's revision is not compared under the lock", "workflows/order.go",
		`	case permit.Head.Differs(r.in.Head):
		return r.newHeadError(`,
		`	case permit.Head.Differs(r.in.Head) && permit.Head == nil:
		return r.newHeadError(`),
	newMutant("a rollback keeps what the rollout before the last one left", "release/resume.go",
		`		case !existed && wasFound && m.CreatedByPlan &&`,
		`		case !existed && wasFound && !m.CreatedByPlan &&`),
	newMutant("old machines must stay healthy until they are replaced", "workflows/rollout_run.go",
		`(!m.IsHealthy() || replaced[m.ID])`,
		`(!m.IsHealthy() || replaced[""])`),
	newMutant("a rollback trusts old machines that fail", "fly/driver/apply.go",
		`r.Step.Verb == release.Uncordon && r.Step.Verbatim && !r.Step.SkipHealthCheck {`,
		`r.Step.Verb == "never" {`),
	newMutant("a second attempt of a rollback trusts old machines that fail", "release/restore_steps.go",
		`		r.uncordon = append(r.uncordon, r.awaitHealth...)`,
		`		r.uncordon = append(r.uncordon, r.awaitHealth[:0]...)`),
	newMutant("a plan fits machines that were cordoned since", "release/plan.go",
		`m.Host == "" && m.Cordoned != slices`,
		`m.Host == "never" && m.Cordoned != slices`),
	newMutant("a baseline may be older than the leases", "workflows/baseline.go",
		`Written: r.leases.versions(), `,
		``),
	newMutant("a stale list hides what a terminated rollout created", "activities/record_baseline.go",
		`RereadStale(ctx, start.States, start.Before.Written)`,
		`RereadStale(ctx, start.States, nil)`),
	newMutant("a rollback waits for a created machine only after an abort", "fly/driver/create.go",
		`	if err != nil {
		r.waitForCreated(ctx, createdWait`,
		`	if ctx.Err() != nil {
		r.waitForCreated(ctx, createdWait`),
	newMutant("a takeover after an older revision is superseded", "workflows/takeover.go",
		`	outcome := release.Stopped
	if since`,
		`	outcome := release.Superseded
	if since`),
	newMutant("a verdict is recorded and not shown", "release/event_log.go",
		`	l.status.Apply(e)
`,
		`	if e.Kind != EventVerdictReached {
		l.status.Apply(e)
	}
`),
	newMutant("a release without changes does not take the lock", "workflows/unchanged.go",
		`	report, err := r.runUnchanged(ctx, env, plan)`,
		`	report, err := release.Report{Status: release.Status{Outcome: release.Unchanged}}, error(nil)`),
	newMutant("a release without changes records no rollout", "workflows/unchanged.go",
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
		if _, err := overlay.Write(t.TempDir(), "../..", m.changes...); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// TestMutants checks that the simulation finds the fault of each mutant.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program once for each mutant")
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
			seeds := outputOf(program, "-test.run=Seeds", "-seeds", fmt.Sprint(*maxSeeds), "-base", "1", "-stop", "-shrink", "0")
			if found := firstViolation.FindStringSubmatch(seeds); found != nil {
				drawn++
				fmt.Printf("%-67s caught by seed %5s: %.120s\n", m.name, found[1], found[2])
				return
			}
			cases := outputOf(program, "-test.run=Cases")
			found := failedCase.FindStringSubmatch(cases)
			if found == nil {
				t.Fatalf("caught neither within %d seeds nor by a kept case\n%.1000s\n%.1000s", *maxSeeds, seeds, cases)
			}
			kept++
			fmt.Printf("%-67s caught by case %s\n", m.name, found[1])
		})
	}
	fmt.Printf("mutants=%d caught=%d (by seeds: %d, by kept cases: %d)\n", ran, drawn+kept, drawn, kept)
}

// build returns the path of this package's test program with the mutant in it.
func (m mutant) build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file, err := overlay.Write(dir, "../..", m.changes...)
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

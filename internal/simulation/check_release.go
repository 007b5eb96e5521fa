package simulation

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/release"
)

// checkReleaseEnd checks the outcome of a release of the case.
func (s *simulation) checkReleaseEnd(id string, o Order, report *release.Report, err error) {
	s.countOutcome(report, err)
	s.operators.ended[id] = true
	outcome := outcomeOf(report, err)
	if isTerminated(err) {
		outcome = terminatedOutcome
	}
	s.result.FirstOutcome = cmp.Or(s.result.FirstOutcome, outcome)
	if isTerminated(err) {
		s.operators.hasTerminated = true
		s.logEvent("%s ended: terminated", id)
		return
	}
	s.logEvent("%s ended: %s", id, describeEnd(report, err))
	if isStranded := applicationErrorType(err) == release.KindStranded; err != nil && !isStranded {
		s.addViolation("%s failed: %v", id, err)
	}
	s.checker.checkAsked(id, report)
	if err == nil {
		s.checkReleaseReport(id, o, report)
	}
	if s.mustPromote(o) && s.checker.holds > 0 {
		s.addViolation("%s was held %d times, but all trouble was transient", id, s.checker.holds)
	}
}

// checkReleaseReport checks the report of a release that has completed.
func (s *simulation) checkReleaseReport(id string, o Order, report *release.Report) {
	isPromoted := report.Outcome == release.Promoted || report.Outcome == release.Unchanged
	switch {
	case report.Outcome == "":
		s.addViolation("%s ended without an outcome", id)
	case !isPromoted && report.Outcome != release.Restored && report.Cause == nil:
		s.addViolation("the outcome of %s is %s, but its report has no cause", id, report.Outcome)
	}
	if o.Want != "" && report.Outcome != o.Want {
		s.addViolation("%s ended: %s, want %s", id, describeEnd(report, nil), o.Want)
	}
	s.checker.checkComparedUnderLock(id, report)
	if !o.Rollback && len(o.Apps) == 0 {
		s.checker.recordFoundVersion(o.Version, report)
	}
	if s.mustPromote(o) && !isPromoted {
		s.addViolation("%s should have been promoted, but ended: %s", id, describeEnd(report, nil))
	}
}

// applicationErrorType returns the type of the application error in err, or "".
func applicationErrorType(err error) string {
	var failed *temporal.ApplicationError
	if errors.As(err, &failed) {
		return failed.Type()
	}
	return ""
}

// mustPromote reports whether a release must be promoted without any question to an
// operator except at its gates: all trouble, if any, is transient.
func (s *simulation) mustPromote(o Order) bool {
	if o.Abort > 0 || o.Rollback || len(s.Releases) > 1 {
		return false
	}
	for _, d := range o.Reviews {
		if d.Reject {
			return false
		}
	}
	valid := map[string]bool{}
	for _, d := range o.Reviews {
		if d.isValid() && time.Duration(d.After) < time.Duration(gateTimeout) {
			valid[d.By] = true
		}
	}
	for _, e := range s.Environments {
		if len(valid) < e.Approvals {
			return false
		}
	}
	for _, a := range s.Apps {
		for _, g := range a.Groups {
			if slices.ContainsFunc(g.Machines, func(initial InitialMachine) bool { return initial.Failing }) {
				return false
			}
		}
	}
	return !slices.ContainsFunc(s.Troubles, func(t Trouble) bool { return !t.findKind().isTransient })
}

// checkFinalRelease checks the release after all trouble. It must be promoted or
// unchanged, and nothing of any release may be left on Fly.
func (s *simulation) checkFinalRelease(id string, o Order, report *release.Report, err error, promoted bool) {
	s.countOutcome(report, err)
	s.logEvent("%s ended: %s", id, describeEnd(report, err))
	if err != nil || report.Outcome != release.Promoted && report.Outcome != release.Unchanged {
		s.addViolation("the release after all trouble was neither promoted nor unchanged: %s", describeEnd(report, err))
	}
	foreign := false
	for _, e := range s.Environments {
		foreign = foreign || s.checker.isLeftMixed(e.Name)
		for _, a := range s.Apps {
			foreign = foreign || s.checker.isChangedByOthers(flyAppOf(e.Name, a.Name))
		}
	}
	if err == nil && promoted && report.Outcome != release.Unchanged && !foreign && len(s.Releases) == 1 && !slices.ContainsFunc(s.Releases, func(o Order) bool { return len(o.Apps) > 0 }) {
		s.addViolation("a second release of %s was not unchanged: %s", o.Version, describeEnd(report, err))
	}
	s.checkNothingLeft()
}

// checkNothingLeft reports each lease, command machine and running Fly release that is
// left.
func (s *simulation) checkNothingLeft() {
	if s.checker.hasIncompleteReport || s.hasTrouble(historyLost) {
		return // a report names what may be left, or the history that names it is lost
	}
	for _, e := range s.Environments {
		for _, a := range s.Apps {
			app := flyAppOf(e.Name, a.Name)
			for machine, l := range s.fly.Leases(app) {
				if !s.checker.foreignLeases[l.Nonce] && !strings.HasPrefix(l.Owner, "somebody-else") {
					s.addViolation("a lease is left on machine %s of %s until %s", machine, app, l.Expires.Format(time.TimeOnly))
				}
			}
			for _, m := range s.fly.Machines(app) {
				if isCommandMachine(m) && m.State != "destroying" {
					s.addViolation("machine %s (%s) of %s is left, %s", m.ID, m.Name, app, m.State)
				}
			}
			for _, r := range s.fly.Releases(app) {
				if r.Status == "running" || r.Status == "pending" {
					s.addViolation("Fly release v%d of %s is left %s", r.Version, app, r.Status)
				}
			}
		}
	}
}

// hasTrouble reports whether the case has trouble of that kind.
func (s *simulation) hasTrouble(kind string) bool {
	return slices.ContainsFunc(s.Troubles, func(t Trouble) bool { return t.Kind == kind })
}

// hasLastingTrouble reports whether a trouble of the case may make machines fail for
// long.
func (s *simulation) hasLastingTrouble() bool {
	return slices.ContainsFunc(s.Troubles, func(t Trouble) bool { return t.findKind().isLasting })
}

// checkSettled checks that the releases of the case left nothing, and clears the
// state of their requests. The next release cleans up after a terminated one.
func (c *checker) checkSettled() {
	if !c.sim.operators.hasTerminated {
		c.sim.checkNothingLeft()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down, c.attempts = map[machineKey]bool{}, map[*attempt]bool{}
}

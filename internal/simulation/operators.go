package simulation

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"

	"github.com/microbima/release/release"
)

// The operators send reviews, answer held rollouts and abort releases. They record
// what they have sent, so that the checker can compare it with the behaviour of the
// program.
type operators struct {
	sim              *simulation
	mu               sync.Mutex       // guards toldStateUnknown and answerCounts, which activities read too
	orders           map[string]Order // by workflow ID of the release
	currentPlan      string           // hash of the last plan at a gate
	formerPlan       string           // hash of the plan before it
	reviewsSent      map[string]int   // by workflow ID of the release
	approvals        map[string]map[string]bool
	gatesOpened      map[string]int                // by workflow ID of the release
	rejected         map[string]int                // by plan hash: the number of the gate at which it was rejected
	toldStateUnknown map[string]bool               // by plan hash: the gate showed that the state is unknown at the last approval
	answersUsed      int                           // of Case.Answers
	lastAnswers      map[string]release.Resolution // by workflow ID
	answerCounts     map[string]int                // by workflow ID of the rollout
	aborted          map[string]bool
	ended            map[string]bool // releases, by workflow ID
	hasTerminated    bool            // whether a release was terminated
	phaseCount       int             // phases that workflows have entered
}

func newOperators(s *simulation) *operators {
	return &operators{
		sim: s, orders: map[string]Order{}, reviewsSent: map[string]int{}, approvals: map[string]map[string]bool{},
		gatesOpened: map[string]int{}, rejected: map[string]int{}, toldStateUnknown: map[string]bool{}, lastAnswers: map[string]release.Resolution{}, answerCounts: map[string]int{}, aborted: map[string]bool{}, ended: map[string]bool{},
	}
}

// wasToldStateUnknown reports whether the gate showed that the state is unknown when
// the plan with this hash was last approved.
func (ops *operators) wasToldStateUnknown(plan string) bool {
	ops.mu.Lock()
	defer ops.mu.Unlock()
	return ops.toldStateUnknown[plan]
}

// hasAnswered reports whether an operator has answered the hold of a rollout.
func (ops *operators) hasAnswered(rollout string) bool {
	ops.mu.Lock()
	defer ops.mu.Unlock()
	return ops.answerCounts[rollout] > 0
}

// addRelease schedules the abort and the early reviews of a release.
func (ops *operators) addRelease(id string, o Order) {
	ops.orders[id] = o
	if o.Abort > 0 && o.AbortIn == "" {
		ops.sim.callAfter(time.Duration(o.Abort), func() { ops.abortRelease(id) })
	}
	for i, d := range o.Reviews {
		if d.Early {
			ops.sim.callAfter(time.Duration(d.After), func() { ops.sendReview(id, i, d, "") })
		}
	}
}

// abortRelease cancels a release, unless it has ended.
func (ops *operators) abortRelease(id string) {
	if ops.ended[id] {
		return
	}
	ops.aborted[id] = true
	ops.sim.logEvent("%s: aborted", id)
	ops.sim.temporal.CancelWorkflowByID(id, "")
}

// maxPhases is the maximum number of phases that the workflows of a case may enter. A
// case with more is in an endless loop, which could last for days of virtual time.
const maxPhases = 1000

// enterPhase handles the start of a phase of a workflow: it begins pending trouble and
// schedules reviews, aborts and answers. It panics after maxPhases, which ends the
// workflow.
func (ops *operators) enterPhase(id string, p release.Phase, environment string) {
	if ops.phaseCount++; ops.phaseCount > maxPhases {
		if ops.phaseCount == maxPhases+1 {
			ops.sim.addViolation("%s is in an endless loop, in phase %s", id, p)
		}
		panic("endless loop")
	}
	ops.sim.logEvent("%s: %s %s", id, p, environment)
	ops.sim.beginPendingTroubles(p)
	if o, ok := ops.orders[id]; ok && p == release.AwaitingApproval {
		ops.gatesOpened[id]++
		for i, d := range o.Reviews {
			if !d.Early {
				ops.sim.callAfter(time.Duration(d.After), func() { ops.sendReview(id, i, d, environment) })
			}
		}
	}
	for release, o := range ops.orders {
		if o.Abort > 0 && o.AbortIn == string(p) && !ops.aborted[release] && (release == id || strings.HasPrefix(id, "rollout/")) {
			ops.aborted[release] = true
			ops.sim.callAfter(time.Duration(o.Abort), func() { ops.abortRelease(release) })
		}
	}
	if p == release.HeldPhase {
		ops.sim.callAfter(7*time.Second, func() { ops.repeatAnswer(id) })
		ops.sim.callAfter(15*time.Second, func() { ops.answerHold(id) })
	}
}

// statusFields are the fields of a status that operators use.
type statusFields struct {
	Phase release.Phase       `json:"phase"`
	Gate  *release.GateStatus `json:"gate"`
	Held  *release.Hold       `json:"held"`
}

// readStatus queries the status of a workflow. It reports a violation if that fails.
func (ops *operators) readStatus(id string) (st statusFields) {
	v, err := ops.sim.temporal.QueryWorkflowByID(id, release.StatusQuery)
	if _, hostile := ops.sim.hostileNote(); hostile && err == nil {
		var s release.Status
		if v.Get(&s) == nil {
			ops.sim.checker.checkStatusViews(s)
		}
	}
	if err == nil {
		err = v.Get(&st)
	}
	if err != nil {
		ops.sim.addViolation("the status of %s can't be read: %v", id, err)
	}
	return st
}

// sendReview sends review i of a release to its gate, and checks that an invalid
// one is not accepted.
func (ops *operators) sendReview(id string, i int, d Review, environment string) {
	st := ops.readStatus(id)
	asked := ""
	if st.Gate != nil && (environment == "" || st.Gate.Environment == environment) {
		asked = st.Gate.Plan
	}
	if asked == "" && !d.Early && d.Plan == "" {
		return // the gate is closed
	}
	plan := ops.planToName(d, asked)
	counts := d.isValid() && asked != ""
	ops.recordReview(id, d, asked, counts, st.Gate)
	ops.sim.logEvent("%s: %+v", id, d)
	err := ops.deliverReview(id, fmt.Sprint(id, i, ops.reviewsSent[id], asked), d, plan, func() {
		if !counts && asked != "" && !(d.Reject && d.Plan == "") {
			ops.sim.addViolation("an invalid review was accepted: %+v", d)
		}
	})
	ops.reviewsSent[id]++
	if err != nil {
		ops.sim.logEvent("%s: review not delivered: %v", id, err)
	}
}

// planToName returns the plan hash that d names, where asked is the hash at the gate.
func (ops *operators) planToName(d Review, asked string) string {
	if d.Early {
		return strings.Repeat("0", 64) // no plan exists yet
	}
	switch d.Plan {
	case "none":
		return ""
	case "short":
		return asked[:min(4, len(asked))]
	case "other":
		return strings.Repeat("0badc0de", 8)
	case "former":
		if asked != ops.currentPlan {
			return ops.currentPlan
		}
		return ops.formerPlan
	}
	return asked
}

// recordReview records a review on a release for the checks of approvals.
func (ops *operators) recordReview(id string, d Review, asked string, counts bool, gate *release.GateStatus) {
	if counts {
		if number, ok := ops.rejected[asked]; ok && number != ops.gatesOpened[id] { // the plan waits at its gate again
			delete(ops.rejected, asked)
			delete(ops.approvals, asked)
		}
		if ops.approvals[asked] == nil {
			ops.approvals[asked] = map[string]bool{}
		}
		ops.approvals[asked][strings.TrimSpace(d.By)] = true
		ops.mu.Lock()
		ops.toldStateUnknown[asked] = saysStateUnknown(gate)
		ops.mu.Unlock()
	}
	if d.Reject && asked != "" && d.Plan == "" && d.Raw == "" && strings.TrimSpace(d.By) != "" && !d.Early {
		ops.rejected[asked] = ops.gatesOpened[id]
	}
	if asked != "" && asked != ops.currentPlan {
		ops.formerPlan, ops.currentPlan = ops.currentPlan, asked
	}
}

// deliverReview sends d as a signal or as an update. It calls onAccept if the update
// is accepted.
func (ops *operators) deliverReview(id, updateID string, d Review, plan string, onAccept func()) error {
	review := release.Review{Approve: !d.Reject, By: d.By, Plan: plan, Reason: "simulated"}
	switch {
	case d.Raw != "":
		return ops.sim.temporal.SignalWorkflowByID(id, release.ApproveSignal, converter.NewRawValue(newJSONPayload(d.Raw)))
	case d.Signal:
		name := release.ApproveSignal
		if d.Reject {
			name = release.RejectSignal
		}
		return ops.sim.temporal.SignalWorkflowByID(id, name, review.Input())
	}
	return ops.sim.temporal.UpdateWorkflowByID(id, release.ReviewName(review.Approve), updateID, &testsuite.TestUpdateCallback{
		OnAccept: onAccept, OnReject: func(error) {}, OnComplete: func(any, error) {},
	}, review.Input())
}

// answerHold sends an answer to a held rollout.
func (ops *operators) answerHold(id string) {
	if !ops.sim.checker.isOpen(id) {
		return // it was terminated, and the next run asks again
	}
	st := ops.readStatus(id)
	if st.Held == nil {
		return
	}
	choice := ops.chooseAnswer(id, *st.Held)
	ops.sim.logEvent("%s is held: %s; answer: %s; machines: %q", id, st.Held.Why, choice, st.Held.Machines)
	ops.sim.checker.checkHold(id, *st.Held)
	answer := release.Resolution{Choice: choice, By: "ben"}
	if ops.sim.Repeats {
		answer.Hold = st.Held.Number
	}
	ops.lastAnswers[id] = answer
	if err := ops.sim.temporal.SignalWorkflowByID(id, release.ResolveSignal, answer); err != nil {
		ops.sim.addViolation("the answer to %s could not be sent: %v", id, err)
	}
}

// repeatAnswer sends the answer to the last question again, and checks that it does
// not count for the current question.
func (ops *operators) repeatAnswer(id string) {
	former, ok := ops.lastAnswers[id]
	st := statusFields{}
	if !ok || !ops.sim.Repeats || ops.ended[id] || ops.sim.hasTrouble(terminated) {
		return
	}
	if st = ops.readStatus(id); st.Held == nil || st.Held.Number == former.Hold {
		return
	}
	if err := ops.sim.temporal.SignalWorkflowByID(id, release.ResolveSignal, former); err != nil {
		ops.sim.addViolation("the answer to %s could not be sent: %v", id, err)
	}
	ops.sim.callAfter(100*time.Millisecond, func() {
		if ops.ended[id] || len(ops.aborted) > 0 {
			return // an abort ends a hold too
		}
		if now := ops.readStatus(id); now.Held == nil || now.Held.Number != st.Held.Number {
			ops.sim.addViolation("%s is held (%s), and accepted the answer to another question", id, st.Held.Why)
			ops.sim.Repeats = false // to prevent an endless loop
		}
	})
}

// chooseAnswer returns the next answer of the case if it is offered. Otherwise it
// returns retry a few times, then rollback, and in the end abandon.
func (ops *operators) chooseAnswer(id string, held release.Hold) release.Choice {
	ops.mu.Lock()
	ops.answerCounts[id]++
	n := ops.answerCounts[id]
	ops.mu.Unlock()
	offered := func(choice release.Choice) bool { return slices.Contains(held.Choices, choice) }
	if given := ops.nextAnswer(); offered(given) {
		return given
	}
	switch {
	case n <= 4 && offered(release.ChoiceRetry):
		return release.ChoiceRetry
	case n <= 8 && offered(release.ChoiceRollback):
		return release.ChoiceRollback
	case (held.Reason == release.HoldNotRemoved || !offered(release.ChoiceRetry) && !offered(release.ChoiceRollback)) && offered(release.ChoiceKeep):
		return release.ChoiceKeep // the rollback is impossible, or nothing else is offered
	case n > 8 && !offered(release.ChoiceRollback) && offered(release.ChoiceKeep):
		return release.ChoiceKeep // retries alone do not help, for example if each new plan is rejected
	case n <= 20 && offered(release.ChoiceRetry):
		return release.ChoiceRetry
	}
	if !ops.sim.hasLastingTrouble() {
		ops.sim.addViolation("%s is still held after %d answers: %s", id, n, held.Why)
	}
	return release.ChoiceAbandon
}

// nextAnswer returns the next answer of the case, or "".
func (ops *operators) nextAnswer() release.Choice {
	if ops.answersUsed >= len(ops.sim.Answers) {
		return ""
	}
	ops.answersUsed++
	return ops.sim.Answers[ops.answersUsed-1]
}

func newJSONPayload(doc string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: json.RawMessage(doc)}
}

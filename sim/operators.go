package sim

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

// A crowd is the people: they decide, early and late, answer held rollouts, and
// abort. It keeps its own record of what was said, to hold the program to it.
type operators struct {
	sim              *simulation
	mu               sync.Mutex       // guards told and tries, which activities read, too
	orders           map[string]Order // by workflow ID of the release
	currentPlan      string           // hash of the plan that was asked about last
	formerPlan       string           // and of the one before
	decisionsSent    map[string]int   // gates opened, by release
	approvals        map[string]map[string]bool
	rejected         map[string]bool
	toldStateUnknown map[string]bool // by plan: the gate said "what ran before is not known" at the last approval
	caseAnswers      int
	lastAnswers      map[string]release.Answer // the last, by who was answered
	answerCounts     map[string]int            // answers to one rollout
	aborted          map[string]bool
	ended            map[string]bool // releases that have ended
	hasTerminated    bool            // a release was terminated
	phaseCount       int             // entered
}

func newCrowd(s *simulation) *operators {
	return &operators{
		sim: s, orders: map[string]Order{}, decisionsSent: map[string]int{}, approvals: map[string]map[string]bool{},
		rejected: map[string]bool{}, toldStateUnknown: map[string]bool{}, lastAnswers: map[string]release.Answer{}, answerCounts: map[string]int{}, aborted: map[string]bool{}, ended: map[string]bool{},
	}
}

// wasTold reports whether the gate said that what ran before is not known, when the
// plan with this hash was approved last.
func (ops *operators) wasToldStateUnknown(plan string) bool {
	ops.mu.Lock()
	defer ops.mu.Unlock()
	return ops.toldStateUnknown[plan]
}

// wasAsked reports whether a person has answered a rollout that was held.
func (ops *operators) hasAnswered(rollout string) bool {
	ops.mu.Lock()
	defer ops.mu.Unlock()
	return ops.answerCounts[rollout] > 0
}

// begins hears of a release that was asked for.
func (ops *operators) addRelease(id string, o Order) {
	ops.orders[id] = o
	if o.Abort > 0 && o.AbortIn == "" {
		ops.sim.callAfter(time.Duration(o.Abort), func() { ops.abortRelease(id) })
	}
	for i, d := range o.Decisions {
		if d.Early {
			ops.sim.callAfter(time.Duration(d.After), func() { ops.sendDecision(id, i, d, "") })
		}
	}
}

func (ops *operators) abortRelease(id string) {
	if ops.ended[id] {
		return
	}
	ops.aborted[id] = true
	ops.sim.logEvent("%s is aborted", id)
	ops.sim.temporal.CancelWorkflowByID(id, "")
}

// maxPhases is how many phases a case may have. One with more goes round in
// circles, and would do so for days of virtual time.
const maxPhases = 3000

// phase hears where a workflow is. It panics, and so ends the workflow, where a case
// goes round in circles.
func (ops *operators) enterPhase(id string, p release.Phase, environment string) {
	if ops.phaseCount++; ops.phaseCount > maxPhases {
		if ops.phaseCount == maxPhases+1 {
			ops.sim.addViolation("%s is %s, and goes round in circles", id, p)
		}
		panic("it goes round in circles")
	}
	ops.sim.logEvent("%s: %s %s", id, p, environment)
	ops.sim.beginPendingTroubles(p)
	if o, ok := ops.orders[id]; ok && p == release.Awaiting {
		for i, d := range o.Decisions {
			if !d.Early {
				ops.sim.callAfter(time.Duration(d.After), func() { ops.sendDecision(id, i, d, environment) })
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

// where is what people look at.
type statusFields struct {
	Phase release.Phase       `json:"phase"`
	Gate  *release.GateStatus `json:"gate"`
	Held  *release.Held       `json:"held"`
}

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
		ops.sim.addViolation("%s does not say where it is: %v", id, err)
	}
	return st
}

// decide says d at the door.
func (ops *operators) sendDecision(id string, i int, d Decision, environment string) {
	st := ops.readStatus(id)
	asked := ""
	if st.Gate != nil && (environment == "" || st.Gate.Environment == environment) {
		asked = st.Gate.Plan
	}
	if asked == "" && !d.Early && d.Plan == "" {
		return // nobody asks any more
	}
	plan := asked
	switch d.Plan {
	case "none":
		plan = ""
	case "short":
		plan = asked[:min(4, len(asked))]
	case "other":
		plan = strings.Repeat("0badc0de", 8)
	case "former":
		plan = ops.formerPlan
		if asked != ops.currentPlan {
			plan = ops.currentPlan
		}
	}
	if d.Early {
		plan = strings.Repeat("0", 64) // there is no plan yet; whatever is named
	}
	counts := d.isValid() && asked != ""
	if counts {
		if ops.approvals[asked] == nil {
			ops.approvals[asked] = map[string]bool{}
		}
		ops.approvals[asked][strings.TrimSpace(d.By)] = true
		ops.mu.Lock()
		ops.toldStateUnknown[asked] = saysStateUnknown(st.Gate)
		ops.mu.Unlock()
	}
	if d.Reject && asked != "" && d.Plan == "" && d.Raw == "" && strings.TrimSpace(d.By) != "" && !d.Early {
		ops.rejected[asked] = true
	}
	if asked != "" && asked != ops.currentPlan {
		ops.formerPlan, ops.currentPlan = ops.currentPlan, asked
	}
	decision := release.Decision{Approve: !d.Reject, By: d.By, Plan: plan, Reason: "simulated"}
	ops.sim.logEvent("%s: %+v", id, d)
	var err error
	switch {
	case d.Raw != "":
		err = ops.sim.temporal.SignalWorkflowByID(id, release.ApproveSignal, converter.NewRawValue(newJSONPayload(d.Raw)))
	case d.Signal:
		name := release.ApproveSignal
		if d.Reject {
			name = release.RejectSignal
		}
		err = ops.sim.temporal.SignalWorkflowByID(id, name, decision.Review())
	default:
		err = ops.sim.temporal.UpdateWorkflowByID(id, release.ReviewName(decision.Approve), fmt.Sprint(id, i, ops.decisionsSent[id], asked), &testsuite.TestUpdateCallback{
			OnAccept: func() {
				if !counts && asked != "" && !(d.Reject && d.Plan == "") {
					ops.sim.addViolation("a decision that can't count was accepted: %+v", d)
				}
			},
			OnReject: func(error) {}, OnComplete: func(any, error) {},
		}, decision.Review())
	}
	ops.decisionsSent[id]++
	if err != nil {
		ops.sim.logEvent("%s: not heard: %v", id, err)
	}
}

// answer says something to a held rollout.
func (ops *operators) answerHold(id string) {
	if !ops.sim.checker.isOpen(id) {
		return // it was terminated meanwhile, and the next run asks for itself
	}
	st := ops.readStatus(id)
	if st.Held == nil {
		return
	}
	choice := ops.chooseAnswer(id, *st.Held)
	ops.sim.logEvent("%s is held: %s; said: %s; %q", id, st.Held.Why, choice, st.Held.Machines)
	ops.sim.checker.checkHold(id, *st.Held)
	answer := release.Answer{Choice: choice, By: "ben"}
	if ops.sim.Repeats {
		answer.Hold = st.Held.Number
	}
	ops.lastAnswers[id] = answer
	if err := ops.sim.temporal.SignalWorkflowByID(id, release.AnswerSignal, answer); err != nil {
		ops.sim.addViolation("%s could not be answered: %v", id, err)
	}
}

// repeat sends the answer to the question before once more: it is no answer to the
// question of now.
func (ops *operators) repeatAnswer(id string) {
	former, ok := ops.lastAnswers[id]
	st := statusFields{}
	if !ok || !ops.sim.Repeats || ops.ended[id] || ops.sim.hasTrouble(terminated) {
		return
	}
	if st = ops.readStatus(id); st.Held == nil || st.Held.Number == former.Hold {
		return
	}
	if err := ops.sim.temporal.SignalWorkflowByID(id, release.AnswerSignal, former); err != nil {
		ops.sim.addViolation("%s could not be answered: %v", id, err)
	}
	ops.sim.callAfter(100*time.Millisecond, func() {
		if ops.ended[id] || len(ops.aborted) > 0 {
			return // an abort ends a hold, too
		}
		if now := ops.readStatus(id); now.Held == nil || now.Held.Number != st.Held.Number {
			ops.sim.addViolation("%s is held (%s), and takes an answer to another question", id, st.Held.Why)
			ops.sim.Repeats = false // or it would go on like that
		}
	})
}

// choice is the case's own answer, as long as there is one that is offered;
// then what a sensible person would say: again, a few times, then back.
func (ops *operators) chooseAnswer(id string, held release.Held) release.Choice {
	ops.mu.Lock()
	ops.answerCounts[id]++
	n := ops.answerCounts[id]
	ops.mu.Unlock()
	if ops.caseAnswers < len(ops.sim.Answers) {
		ops.caseAnswers++
		if given := ops.sim.Answers[ops.caseAnswers-1]; slices.Contains(held.Choices, given) {
			return given
		}
	}
	offered := func(choice release.Choice) bool { return slices.Contains(held.Choices, choice) }
	switch {
	case n <= 4 && offered(release.Retry):
		return release.Retry
	case n <= 8 && offered(release.GoBack):
		return release.GoBack
	case (strings.HasPrefix(held.Why, "the new is good") || !offered(release.Retry) && !offered(release.GoBack)) && offered(release.Keep):
		return release.Keep // somebody has changed the old meanwhile, or nothing else is left
	case n <= 20 && offered(release.Retry):
		return release.Retry
	}
	if !ops.sim.hasLastingTrouble() {
		ops.sim.addViolation("%s is still held after %d answers: %s", id, n, held.Why)
	}
	return release.Abandon
}

func newJSONPayload(doc string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: json.RawMessage(doc)}
}

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
type crowd struct {
	w        *world
	mu       sync.Mutex       // guards told and tries, which activities read, too
	orders   map[string]Order // by workflow ID of the release
	current  string           // hash of the plan that was asked about last
	former   string           // and of the one before
	asked    map[string]int   // gates opened, by release
	approved map[string]map[string]bool
	rejected map[string]bool
	told     map[string]bool // by plan: the gate said "what ran before is not known" at the last approval
	answers  int
	given    map[string]release.Answer // the last, by who was answered
	tries    map[string]int            // answers to one rollout
	aborted  map[string]bool
	over     map[string]bool // releases that have ended
	cut      bool            // a release was terminated
	phases   int             // entered
}

func newCrowd(w *world) *crowd {
	return &crowd{
		w: w, orders: map[string]Order{}, asked: map[string]int{}, approved: map[string]map[string]bool{},
		rejected: map[string]bool{}, told: map[string]bool{}, given: map[string]release.Answer{}, tries: map[string]int{}, aborted: map[string]bool{}, over: map[string]bool{},
	}
}

// wasTold reports whether the gate said that what ran before is not known, when the
// plan with this hash was approved last.
func (c *crowd) wasTold(plan string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told[plan]
}

// wasAsked reports whether a person has answered a rollout that was held.
func (c *crowd) wasAsked(rollout string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tries[rollout] > 0
}

// begins hears of a release that was asked for.
func (c *crowd) begins(id string, o Order) {
	c.orders[id] = o
	if o.Abort > 0 && o.AbortIn == "" {
		c.w.in(time.Duration(o.Abort), func() { c.abort(id) })
	}
	for i, d := range o.Decisions {
		if d.Early {
			c.w.in(time.Duration(d.After), func() { c.decide(id, i, d, "") })
		}
	}
}

func (c *crowd) abort(id string) {
	if c.over[id] {
		return
	}
	c.aborted[id] = true
	c.w.tell("%s is aborted", id)
	c.w.env.CancelWorkflowByID(id, "")
}

// maxPhases is how many phases a case may have. One with more goes round in
// circles, and would do so for days of virtual time.
const maxPhases = 3000

// phase hears where a workflow is. It panics, and so ends the workflow, where a case
// goes round in circles.
func (c *crowd) phase(id string, p release.Phase, environment string) {
	if c.phases++; c.phases > maxPhases {
		if c.phases == maxPhases+1 {
			c.w.violate("%s is %s, and goes round in circles", id, p)
		}
		panic("it goes round in circles")
	}
	c.w.tell("%s: %s %s", id, p, environment)
	c.w.troubled(p)
	if o, ok := c.orders[id]; ok && p == release.Awaiting {
		for i, d := range o.Decisions {
			if !d.Early {
				c.w.in(time.Duration(d.After), func() { c.decide(id, i, d, environment) })
			}
		}
	}
	for release, o := range c.orders {
		if o.Abort > 0 && o.AbortIn == string(p) && !c.aborted[release] && (release == id || strings.HasPrefix(id, "rollout/")) {
			c.aborted[release] = true
			c.w.in(time.Duration(o.Abort), func() { c.abort(release) })
		}
	}
	if p == release.HeldPhase {
		c.w.in(7*time.Second, func() { c.repeat(id) })
		c.w.in(15*time.Second, func() { c.answer(id) })
	}
}

// where is what people look at.
type where struct {
	Phase release.Phase       `json:"phase"`
	Gate  *release.GateStatus `json:"gate"`
	Held  *release.Held       `json:"held"`
}

func (c *crowd) look(id string) (st where) {
	v, err := c.w.env.QueryWorkflowByID(id, release.StatusQuery)
	if _, hostile := c.w.hostile(); hostile && err == nil {
		var s release.Status
		if v.Get(&s) == nil {
			c.w.watch.statusIsShown(s)
		}
	}
	if err == nil {
		err = v.Get(&st)
	}
	if err != nil {
		c.w.violate("%s does not say where it is: %v", id, err)
	}
	return st
}

// decide says d at the door.
func (c *crowd) decide(id string, i int, d Decision, environment string) {
	st := c.look(id)
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
		plan = c.former
		if asked != c.current {
			plan = c.current
		}
	}
	if d.Early {
		plan = strings.Repeat("0", 64) // there is no plan yet; whatever is named
	}
	counts := d.valid() && asked != ""
	if counts {
		if c.approved[asked] == nil {
			c.approved[asked] = map[string]bool{}
		}
		c.approved[asked][strings.TrimSpace(d.By)] = true
		c.mu.Lock()
		c.told[asked] = tells(st.Gate)
		c.mu.Unlock()
	}
	if d.Reject && asked != "" && d.Plan == "" && d.Raw == "" && strings.TrimSpace(d.By) != "" && !d.Early {
		c.rejected[asked] = true
	}
	if asked != "" && asked != c.current {
		c.former, c.current = c.current, asked
	}
	decision := release.Decision{Approve: !d.Reject, By: d.By, Plan: plan, Reason: "simulated"}
	c.w.tell("%s: %+v", id, d)
	var err error
	switch {
	case d.Raw != "":
		err = c.w.env.SignalWorkflowByID(id, release.ApproveSignal, converter.NewRawValue(rawJSON(d.Raw)))
	case d.Signal:
		name := release.ApproveSignal
		if d.Reject {
			name = release.RejectSignal
		}
		err = c.w.env.SignalWorkflowByID(id, name, decision.Review())
	default:
		err = c.w.env.UpdateWorkflowByID(id, release.ReviewName(decision.Approve), fmt.Sprint(id, i, c.asked[id], asked), &testsuite.TestUpdateCallback{
			OnAccept: func() {
				if !counts && asked != "" && !(d.Reject && d.Plan == "") {
					c.w.violate("a decision that can't count was accepted: %+v", d)
				}
			},
			OnReject: func(error) {}, OnComplete: func(any, error) {},
		}, decision.Review())
	}
	c.asked[id]++
	if err != nil {
		c.w.tell("%s: not heard: %v", id, err)
	}
}

// answer says something to a held rollout.
func (c *crowd) answer(id string) {
	if !c.w.watch.isOpen(id) {
		return // it was terminated meanwhile, and the next run asks for itself
	}
	st := c.look(id)
	if st.Held == nil {
		return
	}
	choice := c.choice(id, *st.Held)
	c.w.tell("%s is held: %s; said: %s; %q", id, st.Held.Why, choice, st.Held.Machines)
	c.w.watch.held(id, *st.Held)
	answer := release.Answer{Choice: choice, By: "ben"}
	if c.w.Repeats {
		answer.Hold = st.Held.Number
	}
	c.given[id] = answer
	if err := c.w.env.SignalWorkflowByID(id, release.AnswerSignal, answer); err != nil {
		c.w.violate("%s could not be answered: %v", id, err)
	}
}

// repeat sends the answer to the question before once more: it is no answer to the
// question of now.
func (c *crowd) repeat(id string) {
	former, ok := c.given[id]
	st := where{}
	if !ok || !c.w.Repeats || c.over[id] || c.w.hasTrouble(terminated) {
		return
	}
	if st = c.look(id); st.Held == nil || st.Held.Number == former.Hold {
		return
	}
	if err := c.w.env.SignalWorkflowByID(id, release.AnswerSignal, former); err != nil {
		c.w.violate("%s could not be answered: %v", id, err)
	}
	c.w.in(100*time.Millisecond, func() {
		if c.over[id] || len(c.aborted) > 0 {
			return // an abort ends a hold, too
		}
		if now := c.look(id); now.Held == nil || now.Held.Number != st.Held.Number {
			c.w.violate("%s is held (%s), and takes an answer to another question", id, st.Held.Why)
			c.w.Repeats = false // or it would go on like that
		}
	})
}

// choice is the case's own answer, as long as there is one that is offered;
// then what a sensible person would say: again, a few times, then back.
func (c *crowd) choice(id string, held release.Held) release.Choice {
	c.mu.Lock()
	c.tries[id]++
	n := c.tries[id]
	c.mu.Unlock()
	if c.answers < len(c.w.Answers) {
		c.answers++
		if given := c.w.Answers[c.answers-1]; slices.Contains(held.Choices, given) {
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
	if !c.w.lasting() {
		c.w.violate("%s is still held after %d answers: %s", id, n, held.Why)
	}
	return release.Abandon
}

func rawJSON(doc string) *commonpb.Payload {
	return &commonpb.Payload{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: json.RawMessage(doc)}
}

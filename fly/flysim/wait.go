package flysim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// waitMachine responds once the machine is in one of the given states. It holds
// the lock only while it reads the state.
func (s *Sim) waitMachine(c *call) (any, error) {
	q := c.r.URL.Query()
	w := waitInput{states: q["state"], version: q.Get("version")}
	if w.version == "" {
		w.version = q.Get("instance_id")
	}
	if len(w.states) == 0 {
		w.states = []string{"started"}
	}
	for _, state := range w.states {
		if !slices.Contains([]string{"started", "stopped", "suspended", "destroyed", "settled"}, state) {
			return nil, newAPIError(http.StatusBadRequest, "invalid state %q to wait for", state)
		}
	}
	timeout := 60
	if t := q.Get("timeout"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 0 {
			return nil, newAPIError(http.StatusBadRequest, "invalid timeout %q", t)
		}
		timeout = min(n, 60)
	}
	over := make(chan struct{})
	t := s.clock().AfterFunc(time.Duration(timeout)*time.Second, func() { close(over) })
	defer t.Stop()
	for {
		ok, changed, err := s.pollWait(c, w)
		if err != nil {
			return nil, err
		}
		if ok {
			return okReply(), nil
		}
		select {
		case <-changed:
		case <-over:
			return nil, &apiError{status: http.StatusRequestTimeout, code: "deadline_exceeded",
				text: fmt.Sprintf("machine failed to reach desired state, %s, within %d seconds", strings.Join(w.states, " or "), timeout)}
		case <-c.ctx.Done():
			return nil, &apiError{status: http.StatusRequestTimeout, code: "canceled", text: "the request was cancelled"}
		}
	}
}

// pollWait admits the call the first time, and returns whether the wait is
// over.
func (s *Sim) pollWait(c *call, w waitInput) (ok bool, changed <-chan struct{}, err error) {
	s.withLock(func() {
		if c.machine == nil {
			if _, err = s.admitCall(c); err != nil {
				return
			}
		}
		changed = c.machine.changed
		ok, err = w.isOver(c.machine)
	})
	return ok, changed, err
}

type waitInput struct {
	states  []string
	version string
}

// isOver reports whether m is in a state that is waited for, or returns an
// error if it can't reach one.
func (w waitInput) isOver(m *machine) (bool, error) {
	state := m.View.State
	wants := func(states ...string) bool {
		return slices.ContainsFunc(states, func(s string) bool { return slices.Contains(w.states, s) })
	}
	if state == "destroyed" {
		if wants("destroyed", "settled") {
			return true, nil
		}
		return false, newAPIError(http.StatusNotFound, "machine not found")
	}
	if w.version != "" && w.version != m.View.InstanceID {
		if !slices.Contains(m.FormerVersions, w.version) {
			return false, newAPIError(http.StatusBadRequest, "machine has no version %s", w.version)
		}
		if wants("stopped", "settled") {
			return true, nil // that version has ended
		}
		return false, newAPIError(http.StatusBadRequest, "version %s was replaced by %s", w.version, m.View.InstanceID)
	}
	if wants(state) || wants("settled") && isSettled(state) {
		return true, nil
	}
	if state == "destroying" && !wants("destroyed") || state == "failed" && wants("started") {
		return false, newAPIError(http.StatusBadRequest, "machine is %s, and can't become %s", state, strings.Join(w.states, " or "))
	}
	return false, nil
}

func isSettled(state string) bool {
	return slices.Contains([]string{"created", "started", "stopped", "suspended", "failed", "destroyed"}, state)
}

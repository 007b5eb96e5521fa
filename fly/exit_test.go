package fly_test

import (
	"encoding/json"
	"testing"

	"github.com/microbima/release/fly"
)

// Only unrequested exits of this version since its launch count. The second
// case is a response from Fly's documentation.
func TestMachine_UnrequestedExit(t *testing.T) {
	for name, test := range map[string]struct {
		events string
		want   int // -1: none
	}{
		"crashed, and runs again":                    {`[{"type":"start"},{"type":"exit","request":{"exit_event":{"exit_code":7},"restart_count":1}},{"type":"start"},{"type":"update"}]`, 7},
		"the previous version's exit, reported late": {`[{"type":"exit","request":{"exit_event":{"exit_code":127,"exited_at":1653346105255,"requested_stop":false}}},{"type":"update"},{"type":"start"},{"type":"launch"}]`, -1},
		"requested":                        {`[{"type":"exit","request":{"exit_event":{"exit_code":143,"requested_stop":true}}},{"type":"stop"},{"type":"start"},{"type":"launch"}]`, -1},
		"before a user started it":         {`[{"type":"start","status":"started"},{"type":"start","status":"starting","source":"user"},{"type":"exit","request":{"exit_event":{"exit_code":1}}},{"type":"start"},{"type":"launch"}]`, -1},
		"before the proxy started it":      {`[{"type":"start","status":"started"},{"type":"start","status":"starting","source":"proxy"},{"type":"exit","request":{"exit_event":{"exit_code":1}}},{"type":"start"},{"type":"launch"}]`, 1},
		"a failure before a later success": {`[{"type":"exit","request":{"exit_event":{"exited_at":"2026-03-09T14:00:00Z"}}},{"type":"start"},{"type":"exit","request":{"exit_event":{"exit_code":3}}},{"type":"start"},{"type":"launch"}]`, 3},
		"moved to another host":            {`[{"type":"start"},{"type":"migrate"},{"type":"start"},{"type":"launch"}]`, -1},
	} {
		m := fly.Machine{}
		if err := json.Unmarshal([]byte(test.events), &m.Events); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := -1
		if x, ok := m.UnrequestedExit(); ok {
			got = x.Code
		}
		if got != test.want {
			t.Errorf("%s: exit %d, want %d", name, got, test.want)
		}
	}
}

// A machine that was stopped on request after a crash has not crashed.
func TestMachine_Crashed(t *testing.T) {
	for name, test := range map[string]struct {
		state, events string
		want          bool
	}{
		"not restarted by Fly":         {"stopped", `[{"type":"exit","request":{"exit_event":{"exit_code":3}}},{"type":"start"},{"type":"launch"}]`, true},
		"out of memory":                {"stopped", `[{"type":"exit","request":{"exit_event":{"oom_killed":true}}},{"type":"start"},{"type":"launch"}]`, true},
		"restarted":                    {"started", `[{"type":"start"},{"type":"exit","request":{"exit_event":{"exit_code":3}}},{"type":"start"}]`, false},
		"stopped on request later":     {"stopped", `[{"type":"exit","request":{"exit_event":{"exit_code":143,"requested_stop":true}}},{"type":"start"},{"type":"exit","request":{"exit_event":{"exit_code":3}}}]`, false},
		"exit code 0":                  {"stopped", `[{"type":"exit","request":{"exit_event":{"exit_code":0}}},{"type":"start"}]`, false},
		"updated since, never started": {"stopped", `[{"type":"update"},{"type":"exit","request":{"exit_event":{"exit_code":3}}},{"type":"start"}]`, false},
	} {
		m := fly.Machine{State: test.state}
		if err := json.Unmarshal([]byte(test.events), &m.Events); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := m.Crashed(); got != test.want {
			t.Errorf("%s: crashed is %t, want %t", name, got, test.want)
		}
	}
}

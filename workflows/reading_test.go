package workflows_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// between stands between the client and Fly: it may change any answer.
type between struct {
	next   http.RoundTripper
	mu     sync.Mutex
	change func(r *http.Request, resp *http.Response) *http.Response
}

// RoundTrip implements http.RoundTripper.
func (b *between) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.change(r, resp), nil
}

// hear has change see every answer of Fly.
func (s *scenario) hear(change func(r *http.Request, resp *http.Response) *http.Response) {
	c := s.act.Fly.(*fly.Client)
	s.act.Fly = &fly.Client{FlapsURL: c.FlapsURL, APIURL: c.APIURL, UIEXURL: c.UIEXURL, Unlimited: true,
		HTTP: &http.Client{Transport: &between{next: s.sim.Transport(), change: change}}}
}

func answered(r *http.Request, status int, body []byte) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}
}

func isUpdateOf(r *http.Request, app, id string) bool {
	return r.Method == http.MethodPost && r.URL.Path == "/v1/apps/"+app+"/machines/"+id
}

// The host of a machine leaves just after the machine was updated, before anybody
// could see it, and comes back. The new version is good, and stays.
func TestRollout_HostLeavesAfterAnUpdate(t *testing.T) {
	for name, lose := range map[string]func(*flysim.Sim, string, string){"half a config": (*flysim.Sim).Lose, "no config": (*flysim.Sim).LoseConfig} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				s := second(t, repo{}, repo{})
				away := s.sim.Machines(theWeb)[1].ID
				gone := false
				s.hear(func(r *http.Request, resp *http.Response) *http.Response {
					if gone || !isUpdateOf(r, theWeb, away) {
						return resp
					}
					gone = true
					lose(s.sim, theWeb, away)
					time.AfterFunc(40*time.Second, func() { s.sim.Recover(theWeb, away) })
					return answered(r, http.StatusGatewayTimeout, []byte(`{}`))
				})
				rep := s.run()
				if rep.Outcome != release.Promoted || !gone {
					t.Fatalf("%s %+v: %t", rep.Outcome, rep.Cause, gone)
				}
				s.mustRun("production", "v2")
				if n := s.changes(update)[theWeb+"/"+away]; n != 2 { // v1 was put there by creating it
					t.Logf("it was updated %d times", n)
				}
			})
		})
	}
}

// A host leaves while a rollout is taken back, and does not come back for hours.
// Its machine was not changed: it is as it was, and nobody is asked.
func TestRollback_HostOfAnUnchangedMachineLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		was := s.configs("production")
		all := s.sim.Machines(theWeb)
		s.sim.Inject(flysim.Fault{Route: update, App: theWeb, Machine: all[0].ID, Times: 1, Effect: flysim.NeverPasses})
		s.hear(func(r *http.Request, resp *http.Response) *http.Response {
			if isUpdateOf(r, theWeb, all[0].ID) {
				s.sim.LoseConfig(theWeb, all[1].ID)
			}
			return resp
		})
		rep := s.run()
		if rep.Outcome != release.RolledBack {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		if took := rep.Ended.Sub(rep.Started); took > 15*time.Minute {
			t.Errorf("it took %s", took)
		}
		s.sim.Recover(theWeb, all[1].ID)
		for id, config := range s.configs("production") {
			if config != was[id] {
				t.Errorf("machine %s has another config than before", id)
			}
		}
	})
}

// A host that is away when the rollout begins comes back in the middle: its
// machine, which the plan does not touch, is no reason to take anything back.
func TestRollout_HostOfAnUntouchedMachineReturns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		s.req.Apps = []string{"web"}
		away := s.sim.Machines(theWeb)[0].ID
		s.sim.LoseConfig(theWeb, away)
		rep := s.run()
		if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, away) || !strings.Contains(rep.Cause.Message, "returns neither its config nor its group") {
			t.Fatalf("nothing is known of a machine, and yet: %s %+v", rep.Outcome, rep.Cause)
		}
		if n := len(s.sim.Machines(theWeb)); n != 2 {
			t.Errorf("there are %d machines", n)
		}
	})
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		away := s.sim.Machines(theWeb)[1].ID
		updated := 0
		s.hear(func(r *http.Request, resp *http.Response) *http.Response {
			if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/apps/"+theWeb+"/machines/") && strings.HasSuffix(r.URL.Path, "/lease") && updated == 0 {
				updated++
				s.sim.LoseConfig(theWeb, away) // leased, and not yet looked at: the baseline has to remember it
				time.AfterFunc(time.Minute, func() { s.sim.Recover(theWeb, away) })
			}
			return resp
		})
		rep := s.run()
		if rep.Outcome != release.Promoted || updated == 0 {
			t.Fatalf("%s %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v2")
	})
}

// A single reading is older than what was just written. It is read again, and
// undoes nothing.
func TestRollout_StaleReadings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		old := map[string][]byte{} // by path, the last answer before the update
		stale := map[string]int{}
		s.hear(func(r *http.Request, resp *http.Response) *http.Response {
			path := r.URL.Path
			switch {
			case r.Method == http.MethodGet && !strings.HasSuffix(path, "/wait") && strings.Contains(path, theWeb+"/machines"):
				if stale[path] > 0 {
					stale[path]--
					return answered(r, http.StatusOK, old[path])
				}
				body, _ := io.ReadAll(resp.Body)
				old[path] = body
				return answered(r, resp.StatusCode, body)
			case r.Method == http.MethodPost && strings.Count(path, "/") == 5 && resp.StatusCode == http.StatusOK:
				stale[path], stale[strings.TrimSuffix(path, path[strings.LastIndexByte(path, '/'):])] = 3, 1
			}
			return resp
		})
		rep := s.run()
		if rep.Outcome != release.Promoted {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v2")
	})
}

// The list that a rollback is planned from is from before the update that failed:
// the machine is brought back all the same.
func TestRollback_StaleList(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{}, repo{})
		sick := s.sim.Machines(theWeb)[0].ID
		s.sim.Inject(flysim.Fault{Route: update, App: theWeb, Machine: sick, Times: 1, Effect: flysim.NeverPasses})
		var old []byte
		changed := false
		s.hear(func(r *http.Request, resp *http.Response) *http.Response {
			switch {
			case isUpdateOf(r, theWeb, sick):
				changed = true
			case r.Method == http.MethodGet && r.URL.Path == "/v1/apps/"+theWeb+"/machines":
				if changed && s.status().Phase == release.RollingOut && old != nil {
					return answered(r, http.StatusOK, old)
				}
				old, _ = io.ReadAll(resp.Body)
				return answered(r, resp.StatusCode, old)
			}
			return resp
		})
		rep := s.run()
		if rep.Outcome != release.RolledBack {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		s.mustRun("production", "v1")
	})
}

// Three of ten reads are answered 429 or 500. Each is asked again by itself: no look
// begins anew because of it, and planning takes seconds.
func TestPlanning_SomeReadsFail(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusInternalServerError} {
		bubble(t, func(t *testing.T) {
			s := second(t, repo{}, repo{})
			n := 0
			s.hear(func(r *http.Request, resp *http.Response) *http.Response {
				if n++; r.Method == http.MethodGet && !strings.HasSuffix(r.URL.Path, "/wait") && slices.Contains([]int{2, 5, 6}, n%10) {
					return answered(r, status, []byte(`{"error":"not now"}`))
				}
				return resp
			})
			rep := s.run()
			if rep.Outcome != release.Promoted {
				t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
			}
			for _, span := range rep.Spans {
				if span.Phase == release.Planning && span.To.Sub(span.From) > 5*time.Second {
					t.Errorf("%d: planning %s took %s", status, span.Environment, span.To.Sub(span.From))
				}
			}
			s.mustRun("production", "v2")
			s.mustBeClean()
		})
	}
}

// A machine that the rollout left starting does not hold up its own rollback.
func TestRollback_MachineThatIsStarting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := second(t, repo{only: "web"}, repo{only: "web"})
		stuck := s.sim.Machines(theWeb)[0].ID
		s.sim.Inject(flysim.Fault{Route: update, App: theWeb, Machine: stuck, Times: 1, Effect: flysim.NeverStarts})
		rep := s.run()
		if rep.Outcome != release.RolledBack {
			t.Fatalf("%s: %+v", rep.Outcome, rep.Cause)
		}
		for _, span := range rep.Spans {
			if span.Phase == release.RollingBack && span.To.Sub(span.From) > 20*time.Second {
				t.Errorf("rolling back took %s", span.To.Sub(span.From))
			}
		}
	})
}

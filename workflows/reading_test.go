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

// A responseInterceptor is a transport that may change every response of Fly.
type responseInterceptor struct {
	next   http.RoundTripper
	mu     sync.Mutex
	change func(r *http.Request, resp *http.Response) *http.Response
}

// RoundTrip implements http.RoundTripper.
func (b *responseInterceptor) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.change(r, resp), nil
}

// interceptResponses passes every response of Fly to change and returns its result to
// the client.
func (s *scenario) interceptResponses(change func(r *http.Request, resp *http.Response) *http.Response) {
	c := s.act.Fly.(*fly.Client)
	s.act.Fly = &fly.Client{FlapsURL: c.FlapsURL, APIURL: c.APIURL, UIEXURL: c.UIEXURL, Unlimited: true,
		HTTP: &http.Client{Transport: &responseInterceptor{next: s.sim.Transport(), change: change}}}
}

// newResponse returns a response to r.
func newResponse(r *http.Request, status int, body []byte) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}
}

// isUpdateOf reports whether r updates that machine.
func isUpdateOf(r *http.Request, app, id string) bool {
	return r.Method == http.MethodPost && r.URL.Path == "/v1/apps/"+app+"/machines/"+id
}

// The host of a machine becomes unreachable after an update, before the machine is
// read, and returns. The new version is healthy and stays.
func TestRollout_HostUnreachableAfterUpdate(t *testing.T) {
	for name, lose := range map[string]func(*flysim.Sim, string, string){"part of the config is returned": (*flysim.Sim).Lose, "no config is returned": (*flysim.Sim).LoseConfig} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T) {
				s := newUpdate(t, repo{}, repo{})
				away := s.sim.Machines(webApp)[1].ID
				gone := false
				s.interceptResponses(func(r *http.Request, resp *http.Response) *http.Response {
					if gone || !isUpdateOf(r, webApp, away) {
						return resp
					}
					gone = true
					lose(s.sim, webApp, away)
					time.AfterFunc(40*time.Second, func() { s.sim.Recover(webApp, away) })
					return newResponse(r, http.StatusGatewayTimeout, []byte(`{}`))
				})
				rep := s.run()
				if rep.Outcome != release.Promoted || !gone {
					t.Fatalf("%s %+v: %t", rep.Outcome, rep.Cause, gone)
				}
				s.mustRun("production", "v2")
				if n := s.changes(update)[webApp+"/"+away]; n != 2 { // v1 was put there by creating it
					t.Logf("it was updated %d times", n)
				}
			})
		})
	}
}

// A host becomes unreachable for hours during a rollback. Its machine was not changed,
// so the rollback succeeds without a hold.
func TestRollback_HostOfUnchangedMachineUnreachable(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		was := s.configs("production")
		all := s.sim.Machines(webApp)
		s.sim.Inject(flysim.Fault{Route: update, App: webApp, Machine: all[0].ID, Times: 1, Effect: flysim.NeverPasses})
		s.interceptResponses(func(r *http.Request, resp *http.Response) *http.Response {
			if isUpdateOf(r, webApp, all[0].ID) {
				s.sim.LoseConfig(webApp, all[1].ID)
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
		s.sim.Recover(webApp, all[1].ID)
		for id, config := range s.configs("production") {
			if config != was[id] {
				t.Errorf("machine %s has another config than before", id)
			}
		}
	})
}

// A host is unreachable at the start and returns during the rollout. The plan does not
// change its machine, so nothing is rolled back.
func TestRollout_HostOfUnchangedMachineReturns(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		s.req.Apps = []string{"web"}
		away := s.sim.Machines(webApp)[0].ID
		s.sim.LoseConfig(webApp, away)
		rep := s.run()
		if rep.Outcome != release.Stopped || !strings.Contains(rep.Cause.Message, away) || !strings.Contains(rep.Cause.Message, "returns neither its config nor its group") {
			t.Fatalf("a machine has no known config, and the outcome is %s: %+v", rep.Outcome, rep.Cause)
		}
		if n := len(s.sim.Machines(webApp)); n != 2 {
			t.Errorf("there are %d machines", n)
		}
	})
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		away := s.sim.Machines(webApp)[1].ID
		updated := 0
		s.interceptResponses(func(r *http.Request, resp *http.Response) *http.Response {
			if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/apps/"+webApp+"/machines/") && strings.HasSuffix(r.URL.Path, "/lease") && updated == 0 {
				updated++
				s.sim.LoseConfig(webApp, away) // leased and not yet observed: the baseline must use the facts of the plan
				time.AfterFunc(time.Minute, func() { s.sim.Recover(webApp, away) })
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

// A single read returns a state from before the last write. It is read again, and
// nothing is rolled back.
func TestRollout_StaleReads(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		old := map[string][]byte{} // by path, the last answer before the update
		stale := map[string]int{}
		s.interceptResponses(func(r *http.Request, resp *http.Response) *http.Response {
			path := r.URL.Path
			switch {
			case r.Method == http.MethodGet && !strings.HasSuffix(path, "/wait") && strings.Contains(path, webApp+"/machines"):
				if stale[path] > 0 {
					stale[path]--
					return newResponse(r, http.StatusOK, old[path])
				}
				body, _ := io.ReadAll(resp.Body)
				old[path] = body
				return newResponse(r, resp.StatusCode, body)
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

// The list for the restore plan is from before the update that failed. The machine is
// restored nevertheless.
func TestRollback_StaleList(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{}, repo{})
		failing := s.sim.Machines(webApp)[0].ID
		s.sim.Inject(flysim.Fault{Route: update, App: webApp, Machine: failing, Times: 1, Effect: flysim.NeverPasses})
		var old []byte
		changed := false
		s.interceptResponses(func(r *http.Request, resp *http.Response) *http.Response {
			switch {
			case isUpdateOf(r, webApp, failing):
				changed = true
			case r.Method == http.MethodGet && r.URL.Path == "/v1/apps/"+webApp+"/machines":
				if changed && s.status().Phase == release.RollingOut && old != nil {
					return newResponse(r, http.StatusOK, old)
				}
				old, _ = io.ReadAll(resp.Body)
				return newResponse(r, resp.StatusCode, old)
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

// Three of ten reads fail with 429 or 500. Only the failed read is repeated, so
// planning takes seconds.
func TestPlanning_SomeReadsFail(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusInternalServerError} {
		inVirtualTime(t, func(t *testing.T) {
			s := newUpdate(t, repo{}, repo{})
			n := 0
			s.interceptResponses(func(r *http.Request, resp *http.Response) *http.Response {
				if n++; r.Method == http.MethodGet && !strings.HasSuffix(r.URL.Path, "/wait") && slices.Contains([]int{2, 5, 6}, n%10) {
					return newResponse(r, status, []byte(`{"error":"not now"}`))
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

// A machine that is still starting does not delay its rollback.
func TestRollback_StartingMachine(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newUpdate(t, repo{only: "web"}, repo{only: "web"})
		stuck := s.sim.Machines(webApp)[0].ID
		s.sim.Inject(flysim.Fault{Route: update, App: webApp, Machine: stuck, Times: 1, Effect: flysim.NeverStarts})
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

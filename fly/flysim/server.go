package flysim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/internal/rawjson"
)

const nonceHeader = "Fly-Machine-Lease-Nonce"

// A Request is a call that the Sim answered, also with an error.
type Request struct {
	At      time.Time
	Route   string // "POST /v1/apps/{app}/machines/{id}"
	Path    string
	App     string
	Machine string
	Nonce   string
	Body    json.RawMessage
	Status  int // 0: the connection was dropped
}

// A route is one call of the API.
type route struct {
	pattern string
	answer  func(*Sim, *call) (any, error)
	flags   flag
}

type flag int

const (
	needsLease      flag = 1 << iota // requires the nonce of the machine's lease
	slowChange                       // takes Latency.Change in addition
	locksItself                      // locks the Sim itself
	allowsDestroyed                  // works for a destroyed machine
	unrecorded                       // not in Requests, although not a GET
)

// A call is one request in progress.
type call struct {
	ctx     context.Context
	r       *http.Request
	route   route
	name    string // the app of the path or of the Fly release
	app     *app
	machine *machine
	body    []byte
	fault   *Fault
	status  int // status of a success; 0: 200
}

// An apiError is an error with Fly's status, code and message.
type apiError struct {
	status int
	code   string
	text   string
}

func (r *apiError) Error() string { return r.text }

func newAPIError(status int, format string, args ...any) error {
	return &apiError{status: status, code: "unknown", text: fmt.Sprintf(format, args...)}
}

// ServeHTTP serves the Machines API, the release records, the logs and the
// GraphQL API, all at one address.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.Open(); err != nil {
		writeAnswer(w, http.StatusInternalServerError, errorBody(err.Error(), "unknown"))
		return
	}
	if s.Token != "" && !s.isAuthorized(r) {
		_, pattern := mux().Handler(r)
		s.countRequest(w, pattern)
		writeAnswer(w, http.StatusUnauthorized, errorBody("unauthorized", "unauthorized"))
		return
	}
	mux().ServeHTTP(simResponse{w, s}, r)
}

// countRequest counts a request and sets its request ID.
func (s *Sim) countRequest(w http.ResponseWriter, pattern string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[pattern]++
	s.counts[""]++
	w.Header().Set("Fly-Request-Id", "sim-"+strconv.Itoa(s.counts[""]))
}

func (s *Sim) isAuthorized(r *http.Request) bool {
	_, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return given == s.Token || r.Header.Get("Authorization") == s.Token
}

// serveRoute serves one request.
func (s *Sim) serveRoute(w http.ResponseWriter, r *http.Request, rt route) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
	c := &call{ctx: ctx, r: r, route: rt, body: body}
	if err != nil || !utf8.Valid(body) {
		c.body = nil
		s.recordRequest(c, http.StatusBadRequest)
		writeAnswer(w, http.StatusBadRequest, errorBody("unable to read the request body", "unknown"))
		return
	}
	c.name = r.PathValue("app")
	if c.name == "" {
		c.name = s.releasedApp(c)
	}
	c.fault = s.matchFault(rt.pattern, c.name, r.PathValue("id"))
	f := c.fault
	if f != nil && !f.After && !s.applyFault(ctx, w, c, f) {
		return
	}
	d := s.Latency.API
	if rt.flags&slowChange != 0 {
		d += s.Latency.Change
	}
	if !s.sleep(ctx, d) {
		panic(http.ErrAbortHandler) // the client is gone or the Sim is closed; nothing was changed
	}
	status, reply := s.handleCall(c)
	s.recordRequest(c, status)
	if f != nil && f.After && !s.applyFault(ctx, w, c, f) {
		return
	}
	writeAnswer(w, status, reply)
}

// handleCall executes a call and encodes the response.
func (s *Sim) handleCall(c *call) (status int, reply []byte) {
	if c.route.flags&locksItself != 0 {
		return encodeAnswer(c.route.answer(s, c))
	}
	s.mu.Lock()
	out, err := s.admitCall(c)
	if err == nil {
		out, err = c.route.answer(s, c)
	}
	status, reply = encodeAnswer(out, err)
	if err == nil && c.status != 0 {
		status = c.status
	}
	s.settleAndUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journalErr != nil {
		return http.StatusInternalServerError, errorBody("flysim can't write its journal: "+s.journalErr.Error(), "unknown")
	}
	return status, reply
}

// admitCall looks up the app and machine of a call and enforces limits and
// leases.
func (s *Sim) admitCall(c *call) (any, error) {
	name, id := c.r.PathValue("app"), c.r.PathValue("id")
	if s.Limits && !s.isWithinLimits(c) {
		return nil, &apiError{status: http.StatusTooManyRequests, code: "rate_limited", text: "rate limit exceeded"}
	}
	if name == "" {
		return nil, nil
	}
	if c.app = s.state.Apps[name]; c.app == nil {
		return nil, newAPIError(http.StatusNotFound, "app not found")
	}
	if id == "" {
		return nil, nil
	}
	c.machine = c.app.Machines[id]
	m := c.machine
	if m == nil || m.View.State == "destroyed" && c.route.flags&allowsDestroyed == 0 || s.isHidden(m) {
		return nil, newAPIError(http.StatusNotFound, "machine not found")
	}
	if c.route.flags&needsLease == 0 {
		return nil, nil
	}
	s.applyMachineEffect(c)
	if l := m.activeLease(s.now()); l != nil && l.Nonce != c.r.Header.Get(nonceHeader) {
		return nil, newAPIError(http.StatusConflict, "machine ID %s lease currently held by %s, expires at %s", id, l.Owner, l.Expires.Format(time.RFC3339))
	}
	if m.View.HostStatus != "ok" && c.r.Method != http.MethodDelete { // Fly destroys machines on unreachable hosts
		return nil, &apiError{status: http.StatusRequestTimeout, code: "deadline_exceeded", text: "timed out: the machine's host is unreachable"}
	}
	return nil, nil
}

// limiter is the token bucket for one action on one machine.
type limiter = rate.Limiter

// isWithinLimits counts a Machines API call and reports whether it is within
// Fly's limits.
func (s *Sim) isWithinLimits(c *call) bool {
	if !strings.Contains(c.route.pattern, "/v1/apps/{app}/machines") {
		return true
	}
	key := c.route.pattern + " " + c.r.PathValue("app") + " " + c.r.PathValue("id")
	l := s.limiters[key]
	if l == nil {
		l = rate.NewLimiter(1, 3)
		if c.r.Method == http.MethodGet {
			l = rate.NewLimiter(5, 10)
		}
		s.limiters[key] = l
	}
	return l.AllowN(s.now(), 1)
}

// decodeBody decodes the request's body; an empty one is not an error.
func (c *call) decodeBody(into any) error {
	if len(c.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.body, into); err != nil {
		return newAPIError(http.StatusBadRequest, "invalid request body: %v", err)
	}
	return nil
}

func (c *call) queryParam(name string) string { return c.r.URL.Query().Get(name) }

// recordRequest records a call that may have changed something.
func (s *Sim) recordRequest(c *call, status int) {
	if c.r.Method == http.MethodGet || c.route.flags&unrecorded != 0 {
		return
	}
	const kept = 100_000
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{At: s.now(), Route: c.route.pattern, Path: c.r.URL.Path, App: c.name,
		Machine: c.r.PathValue("id"), Nonce: c.r.Header.Get(nonceHeader), Body: c.body, Status: status})
	if len(s.requests) > kept {
		s.requests = slices.Clone(s.requests[kept/2:])
	}
}

// Requests returns the calls that could change something, in the order of their
// responses. Only the newest are kept.
func (s *Sim) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Counts returns the number of calls of each route, including reads; "" is the
// total.
func (s *Sim) Counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

func encodeAnswer(out any, err error) (int, []byte) {
	if err != nil {
		r, ok := err.(*apiError)
		if !ok {
			r = &apiError{status: http.StatusInternalServerError, code: "unknown", text: err.Error()}
		}
		return r.status, errorBody(r.text, r.code)
	}
	switch out := out.(type) {
	case nil:
		return http.StatusNoContent, nil
	case fly.Machine:
		return http.StatusOK, encodeMachine(out)
	case *machine:
		return http.StatusOK, out.apiJSON()
	case []*machine:
		list := make([]json.RawMessage, len(out))
		for i, m := range out {
			list[i] = m.apiJSON()
		}
		return http.StatusOK, encodeList(list)
	case []json.RawMessage:
		return http.StatusOK, encodeList(out)
	}
	return http.StatusOK, rawjson.MustMarshal(out)
}

// encodeList returns a JSON array of documents, each unchanged.
func encodeList(list []json.RawMessage) []byte {
	out := []byte{'['}
	for i, doc := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, doc...)
	}
	return append(out, ']')
}

func errorBody(text, code string) []byte {
	return rawjson.MustMarshal(map[string]string{"error": text, "status": code})
}

func writeAnswer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

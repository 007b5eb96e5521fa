package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A line is the way of a request to Fly and of the answer back. Each takes its
// own time, drawn from the seed and from what the request is: so no two things
// happen in the same nanosecond, and what follows goes the same way each time.
type network struct {
	seed uint64
	next http.RoundTripper

	checker        *checker
	mu             sync.Mutex
	requestCounts  map[string]uint64
	outages        []outage
	staleLists     map[string]*staleList
	freshListTimes map[string]time.Time // see known
}

// An outage is a time in which requests don't get through.
type outage struct {
	until  time.Time
	app    string // "" is any
	status int    // what is answered; 0: nothing is, until the client gives up
}

// staleness is an old answer that a list will be given times more.
type staleList struct {
	answer []byte
	times  int
}

func newLine(seed uint64, next http.RoundTripper) *network {
	return &network{seed: seed, next: next, requestCounts: map[string]uint64{}, staleLists: map[string]*staleList{}, freshListTimes: map[string]time.Time{}}
}

var errProcessKilled = errors.New("the process that asks has died")

// latency is how long this request takes to arrive, and its answer to return.
func (n *network) drawLatency(req *http.Request, at *attempt) (there, back time.Duration) {
	name := at.String() + req.Method + req.URL.Path
	if req.GetBody != nil { // some questions are told apart by nothing else
		if body, err := req.GetBody(); err == nil {
			said, _ := io.ReadAll(body) // from memory
			name += string(said)
		}
	}
	drawn := n.drawHash(name)
	around := func(b []byte, about time.Duration) time.Duration {
		return about/2 + time.Duration(binary.BigEndian.Uint64(b)%uint64(about))
	}
	return around(drawn[:8], 20*time.Millisecond), around(drawn[8:16], 10*time.Millisecond)
}

// draw is what the seed has for the next of those who ask by that name.
func (n *network) drawHash(name string) [sha256.Size]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requestCounts[name]++
	return sha256.Sum256(fmt.Appendf(nil, "%d %d %s", n.seed, n.requestCounts[name], name))
}

// patient waits two minutes for an answer, as an http.Client may be told to, which
// would spend a goroutine and more on each request.
type timeoutTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper. Answers are whole before they come.
func (p timeoutTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, end := context.WithTimeout(req.Context(), 2*time.Minute)
	defer end()
	return p.RoundTripper.RoundTrip(req.WithContext(ctx))
}

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	at := attemptOf(req.Context())
	there, back := n.drawLatency(req, at)
	if err := sleep(req.Context(), there); err != nil {
		return nil, err
	}
	if at.isKilled() {
		return nil, errProcessKilled
	}
	if o, ok := n.findOutage(req); ok {
		if o.status == 0 {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		return newResponse(req, o.status, `{"error":"Fly is away"}`), nil
	}
	seen := n.checker.checkRequest(req, at)
	resp, err := n.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	n.checker.recordResponse(seen, resp.StatusCode)
	app, isList := listedApp(req)
	if isList && at != nil && at.name == "PlanRestore" {
		n.checker.recordRestorePlanning(app)
	}
	if resp, err = n.replaceByStaleList(req, resp); err != nil {
		return nil, err
	}
	if err := sleep(req.Context(), back); err != nil {
		return nil, err
	}
	if at.isKilled() {
		return nil, errProcessKilled
	}
	if isList && resp.StatusCode == http.StatusOK {
		n.checker.recordVerifyRead(app, at)
	}
	return resp, nil
}

// listOf is the app whose machines a request asks for, if it is one.
func listedApp(req *http.Request) (app string, isList bool) {
	app, isList = strings.CutSuffix(strings.TrimPrefix(req.URL.Path, "/v1/apps/"), "/machines")
	return app, isList && req.Method == http.MethodGet
}

func (n *network) findOutage(req *http.Request) (outage, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	for _, o := range n.outages {
		if now.Before(o.until) && (o.app == "" || strings.Contains(req.URL.Path, "/"+o.app)) {
			return o, true
		}
	}
	return outage{}, false
}

func (n *network) addOutage(o outage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outages = append(n.outages, o)
}

// repeat answers the next lists of an app, times of them, as the one before.
func (n *network) repeatList(app string, times int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.staleLists[app]; s != nil {
		s.times += times
	} else {
		n.staleLists[app] = &staleList{times: times}
	}
}

// staled is resp, or an older answer to the same question.
func (n *network) replaceByStaleList(req *http.Request, resp *http.Response) (*http.Response, error) {
	app, isList := listedApp(req)
	if !isList || resp.StatusCode != http.StatusOK {
		return resp, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.staleLists[app]
	if s != nil && s.times > 0 && s.answer != nil {
		s.times--
		return newResponse(req, http.StatusOK, string(s.answer)), nil
	}
	n.freshListTimes[app] = time.Now()
	if s == nil {
		return resp, nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	s.answer = body
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// known is how old the newest list is that anybody was given of each app.
func (n *network) copyFreshListTimes() map[string]time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.freshListTimes)
}

// remember keeps the lists of an app, to be repeated later.
func (n *network) recordLists(app string) { n.repeatList(app, 0) }

func (n *network) endTroubles() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outages, n.staleLists = nil, map[string]*staleList{}
}

func newResponse(req *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func hexHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

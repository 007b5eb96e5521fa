package simulation

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

	"github.com/microbima/release/internal/sleep"
)

// A network delays each request to Fly and each response. The delays are drawn from
// the seed and from the request. So no two events happen in the same nanosecond, and
// the same case always takes the same course.
type network struct {
	seed uint64
	next http.RoundTripper

	checker        *checker
	mu             sync.Mutex
	requestCounts  map[string]uint64
	outages        []outage
	staleLists     map[string]*staleList
	freshListTimes map[string]time.Time // see copyFreshListTimes
}

// An outage is a period in which Fly does not answer.
type outage struct {
	until  time.Time
	app    string // "" means each app
	status int    // of the response; 0 means no response until the client gives up
}

// A staleList is an old list of machines that the next requests get instead of a new
// one.
type staleList struct {
	answer []byte
	times  int
}

func newNetwork(seed uint64, next http.RoundTripper) *network {
	return &network{seed: seed, next: next, requestCounts: map[string]uint64{}, staleLists: map[string]*staleList{}, freshListTimes: map[string]time.Time{}}
}

// errProcessKilled is the error of requests of a killed process.
var errProcessKilled = errors.New("the process was killed")

// drawLatency returns the delay of a request and the delay of its response.
func (n *network) drawLatency(req *http.Request, at *attempt) (there, back time.Duration) {
	name := at.String() + req.Method + req.URL.Path
	if req.GetBody != nil { // the body may be the only difference of two requests
		if body, err := req.GetBody(); err == nil {
			content, _ := io.ReadAll(body) // reads from memory
			name += string(content)
		}
	}
	drawn := n.drawHash(name)
	around := func(b []byte, mean time.Duration) time.Duration {
		return mean/2 + time.Duration(binary.BigEndian.Uint64(b)%uint64(mean))
	}
	return around(drawn[:8], 20*time.Millisecond), around(drawn[8:16], 10*time.Millisecond)
}

// drawHash returns random bytes for the next use of name. They depend only on the
// seed, the name and the number of earlier uses.
func (n *network) drawHash(name string) [sha256.Size]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requestCounts[name]++
	return sha256.Sum256(fmt.Appendf(nil, "%d %d %s", n.seed, n.requestCounts[name], name))
}

// A timeoutTransport cancels a request after two minutes. The Timeout of an
// http.Client would cost a goroutine per request.
type timeoutTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper. Bodies of responses are in memory, so the
// context can end with the call.
func (t timeoutTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, end := context.WithTimeout(req.Context(), 2*time.Minute)
	defer end()
	return t.RoundTripper.RoundTrip(req.WithContext(ctx))
}

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	at := attemptOf(req.Context())
	there, back := n.drawLatency(req, at)
	if err := sleep.For(req.Context(), there); err != nil {
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
		return newResponse(req, o.status, `{"error":"Fly is unreachable"}`), nil
	}
	checked := n.checker.checkRequest(req, at)
	resp, err := n.next.RoundTrip(req)
	if err != nil {
		n.checker.recordLostResponse(checked)
		return nil, err
	}
	n.checker.recordResponse(checked, resp.StatusCode)
	app, isList := listedApp(req)
	if isList && at != nil && at.name == "PlanRestore" {
		n.checker.recordRestorePlanning(app)
	}
	if resp, err = n.replaceByStaleList(req, resp); err != nil {
		return nil, err
	}
	if err := sleep.For(req.Context(), back); err != nil {
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

// listedApp returns the app whose machines a request lists, and whether the request is
// such a list.
func listedApp(req *http.Request) (app string, isList bool) {
	app, isList = strings.CutSuffix(strings.TrimPrefix(req.URL.Path, "/v1/apps/"), "/machines")
	return app, isList && req.Method == http.MethodGet
}

// findOutage returns the current outage that a request meets, if any.
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

// repeatList replaces the next lists of an app, times of them, by the last one
// recorded.
func (n *network) repeatList(app string, times int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.staleLists[app]; s != nil {
		s.times += times
	} else {
		n.staleLists[app] = &staleList{times: times}
	}
}

// replaceByStaleList returns a stale list instead of resp if one is due, else resp. It
// records the list if necessary.
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

// copyFreshListTimes returns, by app, when a request last got a list that was not
// stale.
func (n *network) copyFreshListTimes() map[string]time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.freshListTimes)
}

// recordLists makes the network record the lists of an app, for repeatList.
func (n *network) recordLists(app string) { n.repeatList(app, 0) }

// endTroubles ends all outages and stale lists.
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

// hexHash returns the SHA-256 sum of s in hexadecimal.
func hexHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

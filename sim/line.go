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
type line struct {
	seed uint64
	next http.RoundTripper

	watch *watch
	mu    sync.Mutex
	asked map[string]uint64
	out   []outage
	stale map[string]*staleness
	fresh map[string]time.Time // see known
}

// An outage is a time in which requests don't get through.
type outage struct {
	until  time.Time
	app    string // "" is any
	status int    // what is answered; 0: nothing is, until the client gives up
}

// staleness is an old answer that a list will be given times more.
type staleness struct {
	answer []byte
	times  int
}

func newLine(seed uint64, next http.RoundTripper) *line {
	return &line{seed: seed, next: next, asked: map[string]uint64{}, stale: map[string]*staleness{}, fresh: map[string]time.Time{}}
}

var errDead = errors.New("the process that asks has died")

// latency is how long this request takes to arrive, and its answer to return.
func (l *line) latency(req *http.Request, at *attempt) (there, back time.Duration) {
	name := at.String() + req.Method + req.URL.Path
	if req.GetBody != nil { // some questions are told apart by nothing else
		if body, err := req.GetBody(); err == nil {
			said, _ := io.ReadAll(body) // from memory
			name += string(said)
		}
	}
	drawn := l.draw(name)
	around := func(b []byte, about time.Duration) time.Duration {
		return about/2 + time.Duration(binary.BigEndian.Uint64(b)%uint64(about))
	}
	return around(drawn[:8], 20*time.Millisecond), around(drawn[8:16], 10*time.Millisecond)
}

// draw is what the seed has for the next of those who ask by that name.
func (l *line) draw(name string) [sha256.Size]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[name]++
	return sha256.Sum256(fmt.Appendf(nil, "%d %d %s", l.seed, l.asked[name], name))
}

// patient waits two minutes for an answer, as an http.Client may be told to, which
// would spend a goroutine and more on each request.
type patient struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper. Answers are whole before they come.
func (p patient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, end := context.WithTimeout(req.Context(), 2*time.Minute)
	defer end()
	return p.RoundTripper.RoundTrip(req.WithContext(ctx))
}

// RoundTrip implements http.RoundTripper.
func (l *line) RoundTrip(req *http.Request) (*http.Response, error) {
	at := attemptOf(req.Context())
	there, back := l.latency(req, at)
	if err := wait(req.Context(), there); err != nil {
		return nil, err
	}
	if at.isDead() {
		return nil, errDead
	}
	if o, ok := l.outage(req); ok {
		if o.status == 0 {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		return plainAnswer(req, o.status, `{"error":"Fly is away"}`), nil
	}
	seen := l.watch.asks(req, at)
	resp, err := l.next.RoundTrip(req)
	if err != nil {
		l.watch.unanswered(seen)
		return nil, err
	}
	l.watch.answered(seen, resp.StatusCode)
	app, isList := listOf(req)
	if isList && at != nil && at.name == "PlanRestore" {
		l.watch.plansBack(app)
	}
	if resp, err = l.staled(req, resp); err != nil {
		return nil, err
	}
	if err := wait(req.Context(), back); err != nil {
		return nil, err
	}
	if at.isDead() {
		return nil, errDead
	}
	if isList && resp.StatusCode == http.StatusOK {
		l.watch.looks(app, at)
	}
	return resp, nil
}

// listOf is the app whose machines a request asks for, if it is one.
func listOf(req *http.Request) (app string, isList bool) {
	app, isList = strings.CutSuffix(strings.TrimPrefix(req.URL.Path, "/v1/apps/"), "/machines")
	return app, isList && req.Method == http.MethodGet
}

func (l *line) outage(req *http.Request) (outage, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, o := range l.out {
		if now.Before(o.until) && (o.app == "" || strings.Contains(req.URL.Path, "/"+o.app)) {
			return o, true
		}
	}
	return outage{}, false
}

func (l *line) goesAway(o outage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = append(l.out, o)
}

// repeat answers the next lists of an app, times of them, as the one before.
func (l *line) repeat(app string, times int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.stale[app]; s != nil {
		s.times += times
	} else {
		l.stale[app] = &staleness{times: times}
	}
}

// staled is resp, or an older answer to the same question.
func (l *line) staled(req *http.Request, resp *http.Response) (*http.Response, error) {
	app, isList := listOf(req)
	if !isList || resp.StatusCode != http.StatusOK {
		return resp, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stale[app]
	if s != nil && s.times > 0 && s.answer != nil {
		s.times--
		return plainAnswer(req, http.StatusOK, string(s.answer)), nil
	}
	l.fresh[app] = time.Now()
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
func (l *line) known() map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.fresh)
}

// remember keeps the lists of an app, to be repeated later.
func (l *line) remember(app string) { l.repeat(app, 0) }

func (l *line) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out, l.stale = nil, map[string]*staleness{}
}

func plainAnswer(req *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

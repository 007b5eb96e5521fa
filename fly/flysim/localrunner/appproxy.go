package localrunner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"sync"
	"time"

	"github.com/microbima/release/fly/flysim"
)

// An edge is what Fly's proxy is to one app: it listens at the app's URL and
// hands each request to one of the machines that may serve it.
type appProxy struct {
	app       string
	url       string
	server    *http.Server
	transport *http.Transport

	mu        sync.Mutex
	backends  []flysim.Backend
	nextIndex int
}

// errNobody means that an app has no machine to serve it at this moment.
var errNoBackend = errors.New("no machine of it is started, uncordoned and passing its checks")

func newAppProxy(app string, l net.Listener) *appProxy {
	e := &appProxy{app: app, url: "http://" + l.Addr().String(), transport: directTransport()}
	quiet := log.New(io.Discard, "", 0) // whoever asked is told
	e.server = &http.Server{
		Handler:           &httputil.ReverseProxy{Rewrite: rewriteRequest, Transport: e, ErrorHandler: e.writeError, ErrorLog: quiet},
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          quiet,
	}
	go func() { _ = e.server.Serve(l) }() // ends with close, and says only that
	return e
}

// directTransport takes no proxy from the environment, and changes nothing of
// what passes through.
func directTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     30 * time.Second,
	}
}

// forward makes the request that a machine sees of the one that came in.
func rewriteRequest(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme = "http"
	r.Out.URL.RawQuery = r.In.URL.RawQuery // also what Go would not parse
	r.Out.Host = r.In.Host
	r.SetXForwarded()
	if ip, _, err := net.SplitHostPort(r.In.RemoteAddr); err == nil {
		r.Out.Header.Set("Fly-Client-IP", ip)
	}
}

// route replaces the machines that new requests go to. Requests under way stay
// where they are.
func (e *appProxy) setBackends(backends []flysim.Backend) {
	e.mu.Lock()
	e.backends = slices.Clone(backends)
	e.mu.Unlock()
	e.transport.CloseIdleConnections() // a machine that stops need not wait for these
}

// order is every backend once, beginning with the next in turn.
func (e *appProxy) nextBackends() []flysim.Backend {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.backends)
	if n == 0 {
		return nil
	}
	first := e.nextIndex % n
	e.nextIndex++
	return slices.Concat(e.backends[first:], e.backends[:first])
}

// RoundTrip sends a request to the machine whose turn it is. If that one can't
// be reached, nothing was sent and the next one gets it; if it breaks off before
// it answered, the next one gets what may safely be asked twice.
func (e *appProxy) RoundTrip(r *http.Request) (*http.Response, error) {
	last := errNoBackend
	for _, b := range e.nextBackends() {
		out := r.WithContext(r.Context())
		u := *r.URL
		u.Host = b.Process.Addr(b.Port)
		out.URL = &u
		if r.Body != nil {
			out.Body = io.NopCloser(r.Body) // still needed if this one can't be reached
		}
		response, err := e.transport.RoundTrip(out)
		if err == nil {
			return response, nil
		}
		last = fmt.Errorf("machine %s: %w", b.Machine, err)
		if r.Context().Err() != nil || !isDialError(err) && !isRetryable(r) {
			break
		}
	}
	return nil, last
}

func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func isRetryable(r *http.Request) bool {
	safe := []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace}
	return slices.Contains(safe, r.Method) && r.Body == nil
}

func (e *appProxy) writeError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // nobody reads it
	}
	status := http.StatusBadGateway
	if errors.Is(err, errNoBackend) {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, fmt.Sprintf("%s can't be served: %v", e.app, err), status)
}

func (e *appProxy) close() {
	_ = e.server.Close() // it has no more to say
	e.transport.CloseIdleConnections()
}

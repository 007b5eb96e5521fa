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

// An appProxy is the counterpart of Fly's proxy for one app: it listens at the
// app's URL and forwards each request to one of the app's backends.
type appProxy struct {
	app       string
	url       string
	server    *http.Server
	transport *http.Transport

	mu        sync.Mutex
	backends  []flysim.Backend
	nextIndex int
}

// errNoBackend means that an app has no machine to serve it now.
var errNoBackend = errors.New("no machine is started, uncordoned and passing its checks")

func newAppProxy(app string, l net.Listener) *appProxy {
	p := &appProxy{app: app, url: "http://" + l.Addr().String(), transport: directTransport()}
	quiet := log.New(io.Discard, "", 0) // errors are returned to the client
	p.server = &http.Server{
		Handler:           &httputil.ReverseProxy{Rewrite: rewriteRequest, Transport: p, ErrorHandler: p.writeError, ErrorLog: quiet},
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          quiet,
	}
	go func() { _ = p.server.Serve(l) }() // returns only after close
	return p
}

// directTransport uses no proxy from the environment and does not change the
// content.
func directTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     30 * time.Second,
	}
}

// rewriteRequest makes the request to the machine from the incoming one.
func rewriteRequest(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme = "http"
	r.Out.URL.RawQuery = r.In.URL.RawQuery // also a query that Go can't parse
	r.Out.Host = r.In.Host
	r.SetXForwarded()
	if ip, _, err := net.SplitHostPort(r.In.RemoteAddr); err == nil {
		r.Out.Header.Set("Fly-Client-IP", ip)
	}
}

// setBackends replaces the machines that new requests go to. Open requests are
// not affected.
func (p *appProxy) setBackends(backends []flysim.Backend) {
	p.mu.Lock()
	p.backends = slices.Clone(backends)
	p.mu.Unlock()
	p.transport.CloseIdleConnections() // so that a stopping machine need not wait for them
}

// nextBackends returns every backend once, starting with the next in turn.
func (p *appProxy) nextBackends() []flysim.Backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.backends)
	if n == 0 {
		return nil
	}
	first := p.nextIndex % n
	p.nextIndex++
	return slices.Concat(p.backends[first:], p.backends[:first])
}

// RoundTrip sends a request to the next backend in turn. If that can't be
// reached, nothing was sent and the request goes to the one after it. If it
// fails before it responds, only a request that is safe to repeat does.
func (p *appProxy) RoundTrip(r *http.Request) (*http.Response, error) {
	last := errNoBackend
	for _, b := range p.nextBackends() {
		out := r.WithContext(r.Context())
		u := *r.URL
		u.Host = b.Process.Addr(b.Port)
		out.URL = &u
		if r.Body != nil {
			out.Body = io.NopCloser(r.Body) // needed for the next backend if this one can't be reached
		}
		response, err := p.transport.RoundTrip(out)
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

func (p *appProxy) writeError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // the client is gone
	}
	status := http.StatusBadGateway
	if errors.Is(err, errNoBackend) {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, fmt.Sprintf("%s is unavailable: %v", p.app, err), status)
}

func (p *appProxy) close() {
	_ = p.server.Close() // no error matters after this
	p.transport.CloseIdleConnections()
}

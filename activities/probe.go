package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/microbima/release/release"
)

// probeTime is how long an answer to a probe may take.
const probeTime = 10 * time.Second

// probe sends p to the Fly app served at base. An answer is good or bad; no
// answer is unknown, because it may be our own network. A redirect to another
// host is an answer, and is not followed; of an answer that a redirect led to, the
// failure has no text.
func (a *Activities) probe(ctx context.Context, t release.Target, p release.Probe, base string) (release.Health, []release.Failure) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	fail := func(reason, output string) []release.Failure {
		if p.Setting != "" {
			reason += fmt.Sprintf(": this is the probe that release sends, named by %s", p.Setting)
		}
		return []release.Failure{{Target: t, Reason: reason, Output: output}}
	}
	request := p.At(base)
	req, err := http.NewRequestWithContext(ctx, cmp.Or(p.Method, http.MethodGet), p.URL(base), nil)
	if err != nil {
		return release.Unknown, fail("the request "+request+" can't be sent", err.Error())
	}
	for name, values := range p.Headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
		if strings.EqualFold(name, "host") && len(values) > 0 {
			req.Host = values[0]
		}
	}
	client := *cmp.Or(a.Edge, edge())
	client.CheckRedirect = stayOnHost
	resp, err := client.Do(req)
	if err != nil {
		return release.Unknown, fail("did not answer "+request, unwrapURL(err).Error())
	}
	defer resp.Body.Close()
	if resp.StatusCode < 400 {
		return release.Healthy, nil
	}
	if resp.Request != nil && resp.Request.URL.String() != req.URL.String() {
		return release.Unhealthy, fail(fmt.Sprintf("answered %s with a redirect, and there with %s", request, resp.Status), "")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 400))
	if err != nil {
		body = nil
	}
	return release.Unhealthy, fail(fmt.Sprintf("answered %s with %s", request, resp.Status), string(body))
}

// unwrapURL returns what went wrong without the URL, which is said already.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// stayOnHost follows redirects on the same host only, and not to another port of
// it but those of HTTP.
func stayOnHost(req *http.Request, via []*http.Request) error {
	first, next := via[0].URL, req.URL
	isWeb := next.Port() == "" && first.Port() == ""
	if len(via) < 5 && next.Hostname() == first.Hostname() && (isWeb || next.Host == first.Host) {
		return nil
	}
	return http.ErrUseLastResponse
}

// edge returns the client for probes: it reaches public addresses only, and
// those that a URL names itself, as that of a simulated Fly does.
var edge = sync.OnceValue(func() *http.Client {
	var proxies sync.Map // host:port of proxies that the environment names
	guarded := &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		addr, err := netip.ParseAddrPort(address)
		if err != nil || isInternal(addr.Addr().Unmap()) {
			return fmt.Errorf("%s is not a public address: a probe does not reach it", address)
		}
		return nil
	}}
	direct := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{
		DisableKeepAlives: true,
		Proxy: func(req *http.Request) (*url.URL, error) {
			u, err := http.ProxyFromEnvironment(req)
			if u != nil {
				proxies.Store(u.Host, true)
			}
			return u, err
		},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, isProxy := proxies.Load(address)
			if _, err := netip.ParseAddrPort(address); err == nil || isProxy {
				return direct.DialContext(ctx, network, address)
			}
			return guarded.DialContext(ctx, network, address)
		},
	}
	return &http.Client{Transport: transport, Timeout: probeTime}
})

// isInternal reports whether an address is none of the public internet.
func isInternal(ip netip.Addr) bool {
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsMulticast() || ip.IsUnspecified() || !ip.IsGlobalUnicast()
}

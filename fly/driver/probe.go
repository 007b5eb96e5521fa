package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
)

// probeTimeout is the timeout of a probe.
const probeTimeout = 10 * time.Second

// sendProbe sends p to the Fly app at base. A response is healthy or unhealthy; no
// response is unknown, because the network of the worker may be the reason. It does not
// follow a redirect to another host. The failure never contains the body of a page
// behind a redirect.
func (d *Driver) sendProbe(ctx context.Context, t release.Target, p release.Probe, base string) (release.Health, []release.Failure) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	fail := func(reason, output string) []release.Failure {
		if p.Setting != "" {
			reason += fmt.Sprintf(": this is the probe that release sends, named by %s", p.Setting)
		}
		return []release.Failure{{Target: t, Reason: reason, Output: output}}
	}
	request := p.Describe(base)
	req, err := newProbeRequest(ctx, p, base)
	if err != nil {
		return release.Unknown, fail("the request "+request+" could not be sent", err.Error())
	}
	client := *cmp.Or(d.Edge, publicClient())
	client.CheckRedirect = stayOnHost
	resp, err := client.Do(req)
	if err != nil {
		return release.Unknown, fail("did not answer "+request, unwrapURLError(err).Error())
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

// newProbeRequest returns the request of p with its method and headers.
func newProbeRequest(ctx context.Context, p release.Probe, base string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, cmp.Or(p.Method, http.MethodGet), p.URL(base), nil)
	if err != nil {
		return nil, err
	}
	for name, values := range p.Headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
		if strings.EqualFold(name, "host") && len(values) > 0 {
			req.Host = values[0]
		}
	}
	return req, nil
}

// probeBefore returns why the probe of a target fails before the first change, or "".
// It does not probe a target without a started machine, because the request would start
// one.
func (d *Driver) probeBefore(ctx context.Context, p release.Probe, s release.State) string {
	if s.URL == "" || s.Private || !isServing(s) {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for isFirst := true; ; isFirst = false {
		health, failures := d.sendProbe(ctx, s.Target, p, s.URL)
		switch {
		case health == release.Healthy:
			return ""
		case !isFirst || sleep.For(ctx, d.poll()) != nil:
			return failures[0].Error()
		}
	}
}

// unwrapURLError returns err without the URL, which the message contains already.
func unwrapURLError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// stayOnHost is a redirect policy: it follows redirects to the same host and port, or
// between HTTP and HTTPS.
func stayOnHost(req *http.Request, via []*http.Request) error {
	first, next := via[0].URL, req.URL
	isWeb := next.Port() == "" && first.Port() == ""
	if len(via) < 5 && next.Hostname() == first.Hostname() && (isWeb || next.Host == first.Host) {
		return nil
	}
	return http.ErrUseLastResponse
}

package flytoml

import (
	"fmt"
	"path"
	"slices"
	"time"

	fly "github.com/superfly/fly-go"
)

// A Probe is the request of an HTTP check, as sent to the Fly app's URL.
type Probe struct {
	Method  string // "" is GET
	Path    string
	Headers map[string][]string
	Plain   bool   // the Fly app has no TLS port
	Key     string // the setting with the check: http_service.checks
}

// Probe returns the request of the first HTTP check on the port behind the Fly
// app's URL, and whether there is one.
func (c *Config) Probe() (Probe, bool) {
	for _, s := range c.services {
		web, tls := s.webHandlers()
		if !web {
			continue
		}
		for _, check := range s.Checks {
			key := "services.http_checks"
			if s.path == "http_service" {
				key = "http_service.checks"
			}
			if deref(check.Type) == http {
				return newProbe(key, check.HTTPMethod, check.HTTPPath, check.HTTPHeaders, !tls), true
			}
		}
		for _, check := range c.checks {
			port := s.InternalPort
			if check.Port != nil {
				port = *check.Port
			}
			if deref(check.Type) == http && port == s.InternalPort {
				return newProbe("checks."+check.name, check.HTTPMethod, check.HTTPPath, check.HTTPHeaders, !tls), true
			}
		}
	}
	return Probe{}, false
}

// webHandlers reports whether the service is reachable by HTTP, and whether by
// TLS.
func (s service) webHandlers() (web, tls bool) {
	for _, p := range s.Ports {
		web = web || slices.Contains(p.Handlers, "http")
		tls = tls || slices.Contains(p.Handlers, "http") && slices.Contains(p.Handlers, "tls")
	}
	return web, tls
}

func newProbe(key string, method, at *string, headers []fly.MachineHTTPHeader, plain bool) Probe {
	p := Probe{Method: deref(method), Path: deref(at), Plain: plain, Key: key}
	if !path.IsAbs(p.Path) {
		p.Path = "/" + p.Path
	}
	for _, h := range headers {
		if p.Headers == nil {
			p.Headers = map[string][]string{}
		}
		p.Headers[h.Name] = append(p.Headers[h.Name], h.Values...)
	}
	return p
}

// SlowChecks returns one sentence for each check whose grace period is longer
// than wait_timeout: a rollout gives the machine up before Fly counts its
// result.
func (c *Config) SlowChecks() (slow []string) {
	add := func(key string, grace *fly.Duration) {
		if grace != nil && grace.Duration > c.deploy.Wait {
			slow = append(slow, fmt.Sprintf("%s is shorter than grace_period %s of %s: a machine that takes that long to start counts as failed",
				c.deploy.Wait, time.Duration(grace.Duration), key))
		}
	}
	for _, s := range c.services {
		for _, check := range s.Checks {
			add(s.path+" checks", check.GracePeriod)
		}
	}
	for _, check := range c.checks {
		add("checks."+check.name, check.GracePeriod)
	}
	return slow
}

package flytoml

import (
	"fmt"
	"strings"
	"time"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

// Fly's limits for checks. Values outside of them are refused for top-level
// checks, and silently moved to the nearest limit for checks of services.
const (
	minInterval           = 2 * time.Second
	maxTimeout            = 60 * time.Second
	minServiceTime        = time.Second
	maxServiceTime        = time.Minute
	tcp, http      string = "tcp", "http"
)

func (r *reader) readTCPCheck(t *tomldoc.Table) fly.MachineServiceCheck {
	kind := tcp
	c := fly.MachineServiceCheck{Type: &kind}
	c.Interval, c.Timeout, c.GracePeriod = r.readServiceTimes(t, time.Millisecond)
	return c
}

// readHTTPCheck reads a check of a service. Old [[services]] have bare
// milliseconds and a list of headers.
func (r *reader) readHTTPCheck(t *tomldoc.Table, unit time.Duration) fly.MachineServiceCheck {
	kind := http
	c := fly.MachineServiceCheck{
		Type:              &kind,
		HTTPMethod:        t.StringPtr("method"),
		HTTPPath:          readCheckPath(t),
		HTTPProtocol:      readProtocol(t),
		HTTPSkipTLSVerify: t.Bool("tls_skip_verify"),
		HTTPTLSServerName: t.StringPtr("tls_server_name"),
		HTTPHeaders:       readHeaders(t, unit == time.Millisecond),
	}
	c.Interval, c.Timeout, c.GracePeriod = r.readServiceTimes(t, unit)
	return c
}

func (r *reader) readServiceTimes(t *tomldoc.Table, unit time.Duration) (interval, timeout, grace *fly.Duration) {
	read := func(key string, zero bool) *fly.Duration {
		v, _ := t.Any(key)
		d := readDuration(t, key, unit)
		n, bare := v.(int64)
		switch {
		case d == nil || zero && d.Duration == 0:
		case bare && unit == time.Nanosecond && d.Duration < minServiceTime:
			t.Warnf(key, "%d without a unit means %s here, which Fly raises to %s; was \"%s\" meant?", n, d, minServiceTime, time.Duration(n)*time.Millisecond)
		case d.Duration < minServiceTime:
			t.Warnf(key, "%s is raised to %s by Fly", d, minServiceTime)
		case d.Duration > maxServiceTime:
			t.Warnf(key, "%s is lowered to %s by Fly", d, maxServiceTime)
		}
		return d
	}
	warnNoEffect(t, "restart_limit")
	return read("interval", false), read("timeout", false), read("grace_period", true)
}

func (r *reader) readChecks() {
	if v, _ := r.root.Any("checks"); isTable(v) {
		t := r.root.Table("checks")
		for _, name := range t.Keys() {
			if c := t.Table(name); c != nil {
				r.readTopCheck(c, name)
			}
		}
		return
	}
	for _, t := range r.root.Tables("checks") { // old form
		name := t.String("name")
		if name == "" {
			t.Errorf("name", "missing")
		}
		r.readTopCheck(t, name)
	}
}

func (r *reader) readTopCheck(t *tomldoc.Table, name string) {
	c := check{name: name, processes: r.readProcessNames(t)}
	c.MachineCheck = fly.MachineCheck{
		Port:              readPort(t, "port", false),
		Type:              t.StringPtr("type"),
		HTTPPath:          readCheckPath(t),
		HTTPProtocol:      readProtocol(t),
		HTTPSkipTLSVerify: t.Bool("tls_skip_verify"),
		HTTPTLSServerName: t.StringPtr("tls_server_name"),
		HTTPHeaders:       readHeaders(t, true),
	}
	if m := t.StringPtr("method"); m != nil {
		upper := strings.ToUpper(*m)
		c.HTTPMethod = &upper
	}
	if kind := deref(c.Type); kind != tcp && kind != http {
		if v, ok := t.Any("type"); !ok || v == "" {
			t.Errorf("type", "missing; write type = \"http\" or \"tcp\"")
		} else if kind != "" {
			t.Errorf("type", "%q is not a type of check; use http or tcp", kind)
		}
	}
	warnNoEffect(t, "restart_limit")
	c.Interval = readDuration(t, "interval", time.Millisecond)
	c.Timeout = readDuration(t, "timeout", time.Millisecond)
	c.GracePeriod = readDuration(t, "grace_period", time.Millisecond)
	if c.Interval != nil && c.Interval.Duration < minInterval {
		t.Errorf("interval", "%s is too short; Fly wants %s or more", c.Interval, minInterval)
	}
	if c.Timeout != nil && c.Timeout.Duration > maxTimeout {
		t.Errorf("timeout", "%s is too long; Fly allows %s", c.Timeout, maxTimeout)
	}
	if !t.Has("port") {
		r.checkMissingPort(t, c)
	}
	r.c.checks = append(r.c.checks, c)
}

// checkMissingPort reports each group in which a check without a port has no
// http_service to take it from.
func (r *reader) checkMissingPort(t *tomldoc.Table, c check) {
	for _, group := range r.c.groups {
		if r.c.appliesTo(group, c.processes) && r.c.httpPort(group) == nil {
			t.Errorf("port", "missing; process group %s has no http_service to take it from", group)
		}
	}
}

// httpPort returns the port of a check that names none; nil if there is none.
func (c *Config) httpPort(group string) *int {
	for i, s := range c.services {
		if s.path == "http_service" && c.appliesTo(group, s.processes) {
			return &c.services[i].InternalPort
		}
	}
	return nil
}

func (c *Config) checksOf(group string) map[string]fly.MachineCheck {
	var out map[string]fly.MachineCheck
	for _, check := range c.checks {
		if !c.appliesTo(group, check.processes) {
			continue
		}
		if out == nil {
			out = map[string]fly.MachineCheck{}
		}
		m := check.MachineCheck
		if m.Port == nil {
			m.Port = c.httpPort(group)
		}
		out[check.name] = m
	}
	return out
}

func readProtocol(t *tomldoc.Table) *string {
	p := t.StringPtr("protocol")
	if p != nil && *p != "http" && *p != "https" {
		t.Errorf("protocol", "%q is not a protocol of a check; use http or https", *p)
	}
	return p
}

func readCheckPath(t *tomldoc.Table) *string {
	p := t.StringPtr("path")
	if p != nil && !strings.HasPrefix(*p, "/") {
		t.Warnf("path", "%q doesn't begin with /", *p)
	}
	return p
}

// readText reads a scalar as text, as flyctl does.
func readText(t *tomldoc.Table, key string) string {
	switch v, ok := t.Any(key); v.(type) {
	case []any, map[string]any:
		t.Errorf(key, "want a string")
		return ""
	default:
		if !ok {
			return ""
		}
		return fmt.Sprint(v)
	}
}

package flysim

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/fly"
)

// Fly's defaults for fields that a check does not set.
const (
	defaultInterval = 15 * time.Second
	defaultTimeout  = 5 * time.Second
	checkOutput     = 1 << 10 // bytes of a response that are kept as output
)

// startChecks starts the checks of m. It has no results until the first is in.
func (s *Sim) startChecks(m *machine) {
	specs := m.config().checks()
	if len(specs) == 0 {
		return
	}
	if m.proc == nil {
		s.simulateChecks(m, specs)
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	m.cancelChecks = cancel
	life, proc := m.generation, m.proc
	if m.Behaviour.CriticalAfter > 0 {
		s.schedule(m, m.Behaviour.CriticalAfter, func() { m.Behaviour.NeverHealthy = m.Behaviour.CriticalAfter > 0 })
	}
	for _, k := range specs {
		s.startGoroutine(func() { s.repeatCheck(ctx, m, life, proc, k) })
	}
}

// stopChecks stops the checks of m and deletes their results.
func (s *Sim) stopChecks(m *machine) {
	if m.cancelChecks != nil {
		m.cancelChecks()
		m.cancelChecks = nil
	}
	m.View.Checks = nil
	s.markChanged(m)
}

// simulateChecks schedules check results of a machine that has no process.
func (s *Sim) simulateChecks(m *machine, specs []checkSpec) {
	b := m.Behaviour
	set := func(status, output string) {
		for _, k := range specs {
			s.recordCheck(m, k.name, status, output)
		}
	}
	bad := b.failedOutput()
	s.schedule(m, s.Latency.Check, func() {
		if b.NeverHealthy {
			set("critical", bad)
			return
		}
		set("passing", "200 OK")
	})
	if b.CriticalAfter > 0 {
		s.schedule(m, b.CriticalAfter, func() {
			if m.Behaviour.CriticalAfter > 0 { // not reset by Heal
				set("critical", bad)
			}
		})
	}
}

// failedOutput returns the output of a failing check.
func (b Behaviour) failedOutput() string { return cmp.Or(b.CheckOutput, "connect: connection refused") }

// recordCheck stores one result of a check.
func (s *Sim) recordCheck(m *machine, name, status, output string) {
	i := slices.IndexFunc(m.View.Checks, func(c fly.Check) bool { return c.Name == name })
	var old fly.Check
	if i >= 0 {
		old = m.View.Checks[i]
	}
	now := fly.Check{Name: name, Status: status, Output: output, UpdatedAt: old.UpdatedAt}
	if old.Status == status && old.Output == output {
		return
	}
	if old.Status != status {
		now.UpdatedAt = s.now()
	}
	checks := slices.DeleteFunc(slices.Clone(m.View.Checks), func(c fly.Check) bool { return c.Name == name })
	checks = append(checks, now)
	slices.SortFunc(checks, func(a, b fly.Check) int { return cmp.Compare(a.Name, b.Name) })
	m.View.Checks = checks
	s.recordPass(m)
	s.markChanged(m)
}

// serviceChecksPass reports whether every service check passes: Fly's proxy
// goes by them.
func serviceChecksPass(m *machine, c config) bool {
	for _, k := range c.checks() {
		if k.service && !slices.ContainsFunc(m.View.Checks, func(c fly.Check) bool { return c.Name == k.name && c.Status == "passing" }) {
			return false
		}
	}
	return true
}

// repeatCheck runs check k of a process until ctx ends.
func (s *Sim) repeatCheck(ctx context.Context, m *machine, life int, proc Process, k checkSpec) {
	interval := time.Duration(cmp.Or(k.Interval, duration(defaultInterval)))
	wait := time.Duration(k.Grace)
	if s.CheckEvery > 0 {
		interval, wait = min(interval, s.CheckEvery), min(wait, s.CheckEvery)
	}
	for s.sleep(ctx, wait) {
		status, output := k.run(ctx, proc)
		if ctx.Err() != nil {
			return
		}
		s.withLock(func() {
			if m.Behaviour.NeverHealthy {
				status, output = "critical", m.Behaviour.failedOutput()
			}
			if m.generation == life {
				s.recordCheck(m, k.name, status, output)
			}
		})
		wait = max(interval, time.Millisecond)
	}
}

// run makes one real request or connection.
func (k checkSpec) run(ctx context.Context, proc Process) (status, output string) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(cmp.Or(k.Timeout, duration(defaultTimeout))))
	defer cancel()
	addr := proc.Addr(k.Port)
	if k.Type != "http" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return "critical", err.Error()
		}
		_ = conn.Close()
		return "passing", "Success"
	}
	url := cmp.Or(k.Protocol, "http") + "://" + addr + "/" + strings.TrimPrefix(k.Path, "/")
	req, err := http.NewRequestWithContext(ctx, strings.ToUpper(cmp.Or(k.Method, "GET")), url, nil)
	if err != nil {
		return "critical", err.Error()
	}
	req.Header.Set("User-Agent", "Consul Health Check")
	for _, h := range k.Headers {
		for _, v := range h.Values {
			req.Header.Add(h.Name, v)
		}
		if strings.EqualFold(h.Name, "host") && len(h.Values) > 0 {
			req.Host = h.Values[0]
		}
	}
	resp, err := k.httpClient().Do(req)
	if err != nil {
		return "critical", err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, checkOutput))
	output = strings.TrimSpace(fmt.Sprintf("%s %s", resp.Status, strings.ToValidUTF8(string(body), "?")))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return "critical", output
	}
	return "passing", output
}

// httpClient returns a client that makes a new connection for each request and
// follows no redirect.
func (k checkSpec) httpClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: k.Insecure}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

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

// Fly's defaults where a check does not say.
const (
	defaultInterval = 15 * time.Second
	defaultTimeout  = 5 * time.Second
	checkOutput     = 1 << 10 // bytes of an answer that are shown
)

// check begins to check m. It has no results before the first is in.
func (s *Sim) check(m *machine) {
	specs := m.config().checks()
	if len(specs) == 0 {
		return
	}
	if m.proc == nil {
		s.pretend(m, specs)
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	m.checking = cancel
	life, proc := m.life, m.proc
	if m.Behaves.SourAfter > 0 {
		s.after(m, m.Behaves.SourAfter, func() { m.Behaves.NeverHealthy = m.Behaves.SourAfter > 0 })
	}
	for _, k := range specs {
		s.spawn(func() { s.checkLoop(ctx, m, life, proc, k) })
	}
}

// uncheck ends m's checks and forgets their results.
func (s *Sim) uncheck(m *machine) {
	if m.checking != nil {
		m.checking()
		m.checking = nil
	}
	m.View.Checks = nil
	s.touch(m)
}

// pretend makes the results of a make-believe machine.
func (s *Sim) pretend(m *machine, specs []checkSpec) {
	b := m.Behaves
	set := func(status, output string) {
		for _, k := range specs {
			s.result(m, k.name, status, output)
		}
	}
	bad := b.failure()
	s.after(m, s.Latency.Check, func() {
		if b.NeverHealthy {
			set("critical", bad)
			return
		}
		set("passing", "200 OK")
	})
	if b.SourAfter > 0 {
		s.after(m, b.SourAfter, func() {
			if m.Behaves.SourAfter > 0 { // nobody has healed it
				set("critical", bad)
			}
		})
	}
}

// failure is what a check that fails for b says.
func (b Behaviour) failure() string { return cmp.Or(b.CheckOutput, "connect: connection refused") }

// result records one result of a check.
func (s *Sim) result(m *machine, name, status, output string) {
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
	s.pass(m)
	s.touch(m)
}

// passing says whether every check that steers the proxy passes.
func passing(m *machine, c config) bool {
	for _, k := range c.checks() {
		if k.service && !slices.ContainsFunc(m.View.Checks, func(c fly.Check) bool { return c.Name == k.name && c.Status == "passing" }) {
			return false
		}
	}
	return true
}

// checkLoop asks a process again and again until the machine does something
// else.
func (s *Sim) checkLoop(ctx context.Context, m *machine, life int, proc Process, k checkSpec) {
	interval := time.Duration(cmp.Or(k.Interval, duration(defaultInterval)))
	wait := time.Duration(k.Grace)
	if s.CheckEvery > 0 {
		interval, wait = min(interval, s.CheckEvery), min(wait, s.CheckEvery)
	}
	for s.sleep(ctx, wait) {
		status, output := k.ask(ctx, proc)
		if ctx.Err() != nil {
			return
		}
		s.locked(func() {
			if m.Behaves.NeverHealthy {
				status, output = "critical", m.Behaves.failure()
			}
			if m.life == life {
				s.result(m, k.name, status, output)
			}
		})
		wait = max(interval, time.Millisecond)
	}
}

// ask makes one real request or connection.
func (k checkSpec) ask(ctx context.Context, proc Process) (status, output string) {
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
	resp, err := k.client().Do(req)
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

// client makes a connection of its own for each request and follows nothing.
func (k checkSpec) client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: k.Insecure}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

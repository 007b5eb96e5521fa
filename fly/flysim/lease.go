package flysim

import (
	"cmp"
	"net/http"
	"strconv"
	"time"
)

// A lease prevents others from changing a machine until it expires.
type lease struct {
	Nonce       string    `json:"nonce"`
	Owner       string    `json:"owner"`
	Description string    `json:"description,omitempty"`
	Version     string    `json:"version"`
	Expires     time.Time `json:"expires"`
}

// activeLease returns the lease on m if it has not expired, else nil.
func (m *machine) activeLease(now time.Time) *lease {
	if m.Lease == nil || !now.Before(m.Lease.Expires) {
		return nil
	}
	return m.Lease
}

func (s *Sim) newLease(m *machine, ttl time.Duration) *lease {
	return &lease{Nonce: s.newID("nonce", 12), Owner: "you@example.com", Version: m.View.InstanceID, Expires: s.now().Add(ttl)}
}

func (l *lease) apiView() any {
	return map[string]any{"status": "success", "data": map[string]any{
		"nonce": l.Nonce, "expires_at": l.Expires.Unix(), "owner": l.Owner, "description": l.Description, "version": l.Version,
	}}
}

func (s *Sim) takeLease(c *call) (any, error) {
	var in struct {
		TTL         int    `json:"ttl"`
		Description string `json:"description"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	if t := c.queryParam("ttl"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 0 {
			return nil, newAPIError(http.StatusBadRequest, "invalid ttl %q", t)
		}
		in.TTL = n
	}
	m := c.machine
	s.applyMachineEffect(c)
	ttl := time.Duration(cmp.Or(in.TTL, 30)) * time.Second
	nonce := c.r.Header.Get(nonceHeader)
	held := m.activeLease(s.now())
	switch {
	case held == nil && nonce != "":
		return nil, newAPIError(http.StatusNotFound, "lease not found")
	case held == nil:
		m.Lease = s.newLease(m, ttl)
		m.Lease.Description = in.Description
		c.status = http.StatusCreated
	case held.Nonce != nonce:
		return nil, newAPIError(http.StatusConflict, "machine ID %s lease currently held by %s, expires at %s", m.View.ID, held.Owner, held.Expires.Format(time.RFC3339))
	default:
		m.Lease.Expires = s.now().Add(ttl)
		m.Lease.Version = m.View.InstanceID
	}
	s.unsaved = true
	return m.Lease.apiView(), nil
}

func (s *Sim) getLease(c *call) (any, error) {
	l := c.machine.activeLease(s.now())
	if l == nil {
		return nil, newAPIError(http.StatusNotFound, "lease not found")
	}
	return l.apiView(), nil
}

func (s *Sim) deleteLease(c *call) (any, error) {
	l := c.machine.activeLease(s.now())
	if l == nil {
		return nil, newAPIError(http.StatusNotFound, "lease not found")
	}
	if l.Nonce != c.r.Header.Get(nonceHeader) {
		return nil, newAPIError(http.StatusConflict, "machine ID %s lease currently held by %s, expires at %s", c.machine.View.ID, l.Owner, l.Expires.Format(time.RFC3339))
	}
	c.machine.Lease = nil
	s.unsaved = true
	return map[string]any{"status": "success", "data": okReply()}, nil
}

package fly

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/microbima/release/internal/rawjson"
)

// A Lease prevents others from changing a machine until it expires.
type Lease struct {
	Nonce       string // required to change the machine
	Owner       string
	Description string // purpose of the lease
	Version     string // the machine's InstanceID when it was leased
	Expires     time.Time
}

// TakeLease takes a lease on a machine. The description says what for.
// ErrConflict: someone has a lease; ReadLease returns whose. A second call
// conflicts with the first: after ErrUnknownOutcome, call ReadLease and compare
// the description.
func (c *Client) TakeLease(ctx context.Context, app, id, description string, ttl time.Duration) (Lease, error) {
	return c.requestLease(ctx, machineCall("lease machine "+id, "lease", http.MethodPost, app, id, "lease"), "", description, ttl)
}

// Lease renews the lease with that nonce for ttl from now, in whole seconds;
// without a nonce it takes one. It may be called twice. ErrNotFound and
// ErrConflict mean that the lease is lost.
func (c *Client) Lease(ctx context.Context, app, id, nonce string, ttl time.Duration) (Lease, error) {
	if nonce == "" {
		return c.TakeLease(ctx, app, id, "release", ttl)
	}
	req := machineCall("renew the lease on machine "+id, "lease", http.MethodPost, app, id, "lease")
	return c.requestLease(ctx, req, nonce, "", ttl) // the lease keeps its description
}

// ReadLease returns the lease on a machine, including its nonce: Fly returns it
// to anyone with access. ErrNotFound: there is no lease, or no such machine.
func (c *Client) ReadLease(ctx context.Context, app, id string) (Lease, error) {
	return c.doLease(ctx, machineCall("read the lease on machine "+id, "readlease", http.MethodGet, app, id, "lease"))
}

func (c *Client) requestLease(ctx context.Context, req call, nonce, description string, ttl time.Duration) (Lease, error) {
	seconds := max(1, int(ttl.Round(time.Second)/time.Second))
	body := map[string]any{"ttl": seconds}
	if description != "" {
		body["description"] = description
	}
	req.query = url.Values{"ttl": {strconv.Itoa(seconds)}} // as flyctl sends it; the docs send it in the body
	req.body, req.nonce = rawjson.MustMarshal(body), nonce
	return c.doLease(ctx, req)
}

func (c *Client) doLease(ctx context.Context, req call) (Lease, error) {
	var out struct {
		Data struct {
			Nonce       string `json:"nonce"`
			ExpiresAt   int64  `json:"expires_at"` // seconds since 1970
			Owner       string `json:"owner"`
			Description string `json:"description"`
			Version     string `json:"version"`
		} `json:"data"`
	}
	if err := c.do(ctx, req, &out); err != nil {
		return Lease{}, err
	}
	d := out.Data
	if d.Nonce == "" {
		return Lease{}, missingField(req, "nonce")
	}
	return Lease{Nonce: d.Nonce, Owner: d.Owner, Description: d.Description, Version: d.Version, Expires: time.Unix(d.ExpiresAt, 0)}, nil
}

// ReleaseLease releases a lease. ErrNotFound: there is none any more.
func (c *Client) ReleaseLease(ctx context.Context, app, id, nonce string) error {
	req := machineCall("release the lease on machine "+id, "unlease", http.MethodDelete, app, id, "lease")
	req.nonce = nonce
	return c.do(ctx, req, nil)
}

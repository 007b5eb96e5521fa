package fly

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A Lease keeps others from changing a machine for a while.
type Lease struct {
	Nonce   string // what changes to the machine must show
	Owner   string
	Version string // the machine's InstanceID when it was leased
	Expires time.Time
}

// Lease takes a lease on a machine or, with the nonce of one, makes it last
// longer. ErrConflict: somebody else holds it; the error says who and until
// when. With a nonce, ErrNotFound or ErrConflict mean that the lease is lost.
func (c *Client) Lease(ctx context.Context, app, id, nonce string, ttl time.Duration) (Lease, error) {
	op := "lease machine "
	if nonce != "" {
		op = "keep the lease on machine "
	}
	seconds := strconv.Itoa(max(1, int(ttl.Round(time.Second)/time.Second)))
	req := onMachine(op+id, "lease", http.MethodPost, app, id, "lease")
	req.query = url.Values{"ttl": {seconds}} // flyctl's place; the docs' is the body
	req.body = encode(map[string]any{"ttl": max(1, int(ttl.Round(time.Second)/time.Second)), "description": "release"})
	req.nonce = nonce
	var out struct {
		Data struct {
			Nonce     string `json:"nonce"`
			ExpiresAt int64  `json:"expires_at"`
			Owner     string `json:"owner"`
			Version   string `json:"version"`
		} `json:"data"`
	}
	if err := c.do(ctx, req, &out); err != nil {
		return Lease{}, err
	}
	d := out.Data
	return Lease{Nonce: d.Nonce, Owner: d.Owner, Version: d.Version, Expires: time.Unix(d.ExpiresAt, 0)}, nil
}

// ReleaseLease gives a lease back. ErrNotFound: there was none any more.
func (c *Client) ReleaseLease(ctx context.Context, app, id, nonce string) error {
	req := onMachine("release the lease on machine "+id, "unlease", http.MethodDelete, app, id, "lease")
	req.nonce = nonce
	return c.do(ctx, req, nil)
}

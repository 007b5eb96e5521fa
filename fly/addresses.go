package fly

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/microbima/release/internal/rawjson"
)

// An Address is an IP address of an app.
type Address struct {
	IP        string    `json:"ip"`
	Region    string    `json:"region"`
	Service   string    `json:"service_name"`
	Shared    bool      `json:"shared"` // with other apps: Fly routes by HTTP host
	CreatedAt time.Time `json:"created_at,omitzero"`
}

// Kind returns the type of the address, as in AssignAddress: v4, v6, shared_v4
// or private_v6; "" if IP is not an address.
func (a Address) Kind() string {
	ip, err := netip.ParseAddr(a.IP)
	switch {
	case err != nil:
		return ""
	case a.Shared:
		return "shared_v4"
	case ip.Is4():
		return "v4"
	case ip.IsPrivate():
		return "private_v6"
	}
	return "v6"
}

// IsPublic reports whether the address is reachable from the internet.
func (a Address) IsPublic() bool {
	kind := a.Kind()
	return kind != "" && kind != "private_v6"
}

// Addresses lists the IP addresses of app.
func (c *Client) Addresses(ctx context.Context, app string) ([]Address, error) {
	var out struct {
		IPs []Address `json:"ips"`
	}
	err := c.do(ctx, addressesCall("list the addresses of "+app, http.MethodGet, app), &out)
	return out.IPs, err
}

// AssignAddress assigns app an address of the given type: v4 (costs money), v6,
// shared_v4 or private_v6. A second call assigns a second address: after
// ErrUnknownOutcome look for one of that type first. ErrInvalid: there is no
// such type.
func (c *Client) AssignAddress(ctx context.Context, app, kind string) (Address, error) {
	req := addressesCall("assign "+app+" an address of type "+kind, http.MethodPost, app)
	req.body = rawjson.MustMarshal(map[string]string{"type": kind})
	var ip Address
	if err := c.do(ctx, req, &ip); err != nil {
		return Address{}, err
	}
	if ip.IP == "" {
		return Address{}, missingField(req, "ip")
	}
	return ip, nil
}

// ReleaseAddress releases an address of app. ErrNotFound: app does not have it,
// perhaps because of an earlier call.
func (c *Client) ReleaseAddress(ctx context.Context, app, ip string) error {
	req := addressesCall("release address "+ip+" of "+app, http.MethodDelete, app)
	req.path = append(req.path, ip)
	return c.do(ctx, req, nil)
}

func addressesCall(op, method, app string) call {
	return call{op: op, action: "addresses " + method, app: app, method: method, path: []string{"apps", app, "ip_assignments"}}
}

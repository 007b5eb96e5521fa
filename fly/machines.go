package fly

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/microbima/release/internal/rawjson"
)

// A Create is the request for a new machine.
type Create struct {
	Name   string          `json:"name,omitempty"` // "" lets Fly choose
	Region string          `json:"region,omitempty"`
	Config json.RawMessage `json:"-"`
	// SkipLaunch leaves it stopped.
	SkipLaunch bool `json:"skip_launch,omitempty"`
	// SkipServiceRegistration creates it cordoned: checked, but without traffic
	// until Uncordon.
	SkipServiceRegistration bool `json:"skip_service_registration,omitempty"`
	// MinSecretsVersion is the version of the app's secrets that it must have.
	MinSecretsVersion uint64 `json:"min_secrets_version,omitempty"`
	// LeaseTTL in seconds, if not 0, leases the machine at once: the response
	// has the nonce.
	LeaseTTL int `json:"lease_ttl,omitempty"`
}

// An Update is the request for another version of a machine. Region and name
// can't change.
type Update struct {
	Config json.RawMessage `json:"-"` // complete: there are no partial updates
	Region string          `json:"region,omitempty"`
	// CurrentVersion, if set, is the expected InstanceID: if the machine has
	// another, nothing is changed and the error is ErrPrecondition.
	CurrentVersion string `json:"current_version,omitempty"`
	// SkipLaunch leaves it stopped; without it a stopped machine is started.
	SkipLaunch        bool   `json:"skip_launch,omitempty"`
	MinSecretsVersion uint64 `json:"min_secrets_version,omitempty"`
	Nonce             string `json:"-"` // of the lease on it
}

// A Wait describes a state to wait for.
type Wait struct {
	State   string        // started (also ""), stopped, suspended, destroyed, settled
	Version string        // an InstanceID; "": any
	Timeout time.Duration // limited to Fly's range, 1s to 60s
}

// Machines lists the machines of app, sorted by ID, without destroyed ones.
func (c *Client) Machines(ctx context.Context, app string) ([]Machine, error) {
	all, err := c.listMachines(ctx, machinesCall("list machines of "+app, "list", http.MethodGet, app))
	return slices.DeleteFunc(all, func(m Machine) bool { return m.State == "destroyed" }), err
}

// AllMachines lists the machines of app, sorted by ID, including destroyed
// ones, which Fly keeps for an unknown time.
func (c *Client) AllMachines(ctx context.Context, app string) ([]Machine, error) {
	req := machinesCall("list machines of "+app+" with destroyed ones", "list", http.MethodGet, app)
	req.query = url.Values{"include_deleted": {"true"}}
	return c.listMachines(ctx, req)
}

// Machine returns one machine. A destroyed one stays readable for a while.
func (c *Client) Machine(ctx context.Context, app, id string) (Machine, error) {
	var m Machine
	err := c.do(ctx, machineCall("read machine "+id, getMachine, http.MethodGet, app, id), &m)
	return normalizeMachine(m), err
}

// Create creates a machine. The API has no idempotency key: after
// ErrUnknownOutcome look for one of that name before trying again.
func (c *Client) Create(ctx context.Context, app string, in Create) (Machine, error) {
	var m Machine
	req := machinesCall("create machine "+in.Name+" in "+app, "create", http.MethodPost, app)
	err := c.sendConfig(ctx, req, in, in.Config, &m)
	return normalizeMachine(m), err
}

// Update replaces the config of a machine, and reboots it.
func (c *Client) Update(ctx context.Context, app, id string, in Update) (Machine, error) {
	var m Machine
	req := machineCall("update machine "+id, "update", http.MethodPost, app, id)
	req.nonce = in.Nonce
	err := c.sendConfig(ctx, req, in, in.Config, &m)
	return normalizeMachine(m), err
}

func (c *Client) sendConfig(ctx context.Context, req call, in any, config json.RawMessage, out any) error {
	body, err := appendConfig(rawjson.MustMarshal(in), config)
	if err != nil {
		return &Error{Op: req.op, mutation: true, unsent: true, kind: ErrInvalid, cause: err}
	}
	req.body = body
	return c.do(ctx, req, out)
}

// Start starts a stopped machine with its current config. It does not wait.
func (c *Client) Start(ctx context.Context, app, id, nonce string) error {
	return c.postVerb(ctx, app, id, "start", nonce, nil)
}

// Stop stops a machine with its own kill signal and timeout. It does not wait.
func (c *Client) Stop(ctx context.Context, app, id, nonce string) error {
	return c.postVerb(ctx, app, id, "stop", nonce, rawjson.MustMarshal(map[string]string{"id": id}))
}

// Cordon takes a machine out of service: no traffic. It may be called twice.
func (c *Client) Cordon(ctx context.Context, app, id, nonce string) error {
	return c.postVerb(ctx, app, id, "cordon", nonce, nil)
}

// Uncordon puts a machine back into service. It may be called twice.
func (c *Client) Uncordon(ctx context.Context, app, id, nonce string) error {
	return c.postVerb(ctx, app, id, "uncordon", nonce, nil)
}

// Destroy kills a machine and removes it. It does not wait.
func (c *Client) Destroy(ctx context.Context, app, id, nonce string) error {
	req := machineCall("destroy machine "+id, "destroy", http.MethodDelete, app, id)
	req.query = url.Values{"force": {"true"}, "kill": {"true"}} // named by the docs and by flyctl
	req.nonce = nonce
	return c.do(ctx, req, nil)
}

// Wait returns nil once the machine is in the state, ErrTimeout when Fly's
// timeout elapsed, ErrInvalid when the machine can't reach the state any more,
// and ErrNotFound when it is gone.
func (c *Client) Wait(ctx context.Context, app, id string, w Wait) error {
	state := cmp.Or(w.State, "started")
	seconds := min(max(int(w.Timeout.Round(time.Second)/time.Second), 1), 60)
	req := machineCall("wait for machine "+id+" to be "+state, "wait", http.MethodGet, app, id, "wait")
	req.query = url.Values{"state": {state}, "timeout": {strconv.Itoa(seconds)}}
	if w.Version != "" {
		// flyctl sends version, the docs instance_id.
		req.query.Set("version", w.Version)
		req.query.Set("instance_id", w.Version)
	}
	return c.do(ctx, req, nil)
}

// SetMetadata sets one key of a machine's metadata, without a reboot and
// without a lease.
func (c *Client) SetMetadata(ctx context.Context, app, id, key, value string) error {
	req := machineCall("set metadata "+key+" of machine "+id, "metadata", http.MethodPost, app, id, "metadata", key)
	req.body = rawjson.MustMarshal(map[string]string{"value": value})
	return c.do(ctx, req, nil)
}

func (c *Client) postVerb(ctx context.Context, app, id, verb, nonce string, body []byte) error {
	req := machineCall(verb+" machine "+id, verb, http.MethodPost, app, id, verb)
	req.nonce, req.body = nonce, body
	return c.do(ctx, req, nil)
}

// machineCall returns a call on one machine of app.
func machineCall(op, action, method, app, id string, more ...string) call {
	path := append([]string{"apps", app, "machines", id}, more...)
	return call{op: op, action: action, app: app, machine: id, method: method, path: path}
}

// machinesCall returns a call on the machines of app.
func machinesCall(op, action, method, app string) call {
	return call{op: op, action: action, app: app, method: method, path: []string{"apps", app, "machines"}}
}

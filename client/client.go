// Package client reads and controls releases through Temporal: it starts them,
// approves plans, resolves held rollouts, and reports the status of releases.
//
// It does not print, and reads neither files nor environment variables.
package client

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/microbima/release/internal/payload"
)

const (
	// DialTimeout is the timeout for connecting to a server.
	DialTimeout = 4 * time.Second
	// DefaultWorkerTimeout is the default timeout for queries and updates.
	DefaultWorkerTimeout = 5 * time.Second

	cloudUI = "https://cloud.temporal.io"
	localUI = "http://127.0.0.1:8233"
)

// Options configure Dial.
type Options struct {
	// Temporal is the server, the namespace ("" is "default") and the identity.
	// Dial sets the data converter. Without a logger, the SDK logs nothing.
	Temporal client.Options
	// UI is the address of the Web UI, for links. If it is "", PageURL derives it
	// from well-known addresses of servers.
	UI string
	// WorkerTimeout is the timeout for queries and updates; 0 is
	// DefaultWorkerTimeout.
	WorkerTimeout time.Duration
	// Warn, if set, receives warnings to show to the user.
	Warn func(message string)
	// Now, if set, replaces time.Now.
	Now func() time.Time
}

// A Client is a connection to the Temporal server of the releases. It is safe for
// concurrent use.
type Client struct {
	temporal      client.Client
	address       string
	namespace     string
	ui            string
	workerTimeout time.Duration
	warn          func(message string)
	now           func() time.Time
	summaries     sync.Map // of activities, by run and activity ID
}

// Dial connects to Temporal. It returns an *Error of kind Unreachable if the server does
// not respond.
func Dial(ctx context.Context, o Options) (*Client, error) {
	o.Temporal.Namespace = cmp.Or(o.Temporal.Namespace, client.DefaultNamespace)
	o.Temporal.DataConverter = payload.NewConverter()
	o.Temporal.ConnectionOptions.GetSystemInfoTimeout = DialTimeout
	if o.Temporal.Logger == nil {
		o.Temporal.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	}
	c := newClient(o)
	dial, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	if o.Temporal.ConnectionOptions.TLS == nil { // fails faster and with a shorter error than the SDK
		conn, err := new(net.Dialer).DialContext(dial, "tcp", c.address)
		if err != nil {
			return nil, c.wrapUnreachable(ctx, dialReason(err))
		}
		conn.Close()
	}
	temporal, err := client.DialContext(dial, o.Temporal)
	if err != nil {
		return nil, c.wrapUnreachable(ctx, err)
	}
	c.temporal = temporal
	return c, nil
}

// newClient returns a client without a connection.
func newClient(o Options) *Client {
	c := &Client{
		address: o.Temporal.HostPort, namespace: o.Temporal.Namespace, ui: o.UI,
		workerTimeout: cmp.Or(o.WorkerTimeout, DefaultWorkerTimeout), warn: o.Warn, now: o.Now,
	}
	if c.warn == nil {
		c.warn = func(string) {}
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c
}

// dialReason returns the reason of a failed dial, such as "connection refused".
func dialReason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Wrap returns err, from the SDK, as an *Error, or the error of ctx if ctx is done.
func (c *Client) Wrap(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &Error{Op: op, Kind: kindOf(err), Address: c.address, Namespace: c.namespace, Err: err}
}

func (c *Client) wrapUnreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &Error{Op: "connect", Kind: Unreachable, Address: c.address, Namespace: c.namespace, Err: err}
}

// Close closes the connection.
func (c *Client) Close() { c.temporal.Close() }

// SDK returns the client of the SDK, for workers.
func (c *Client) SDK() client.Client { return c.temporal }

// Address returns the host and port of Temporal.
func (c *Client) Address() string { return c.address }

// Namespace returns the namespace of the releases.
func (c *Client) Namespace() string { return c.namespace }

// isLocal reports whether the server is on this machine.
func (c *Client) isLocal() bool {
	host, _, err := net.SplitHostPort(c.address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// PageURL returns the URL of a workflow in the Web UI, or "" if the address of the Web UI
// is unknown. It is known for Temporal Cloud and for a local server on the default port.
func (c *Client) PageURL(id, run string) string {
	base := c.ui
	switch {
	case base != "":
	case strings.Contains(c.address, ".tmprl.cloud:") || strings.Contains(c.address, ".api.temporal.io:"):
		base = cloudUI
	case c.isLocal() && strings.HasSuffix(c.address, ":7233"):
		base = localUI
	default:
		return ""
	}
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	page := strings.TrimRight(base, "/") + "/namespaces/" + url.PathEscape(c.namespace) + "/workflows/" + url.PathEscape(id)
	if run != "" {
		page += "/" + run
	}
	return page
}

// retryInterval is the delay before a request to an unresponsive server is retried.
const retryInterval = time.Second

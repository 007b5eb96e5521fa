package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"

	"github.com/microbima/release/worker"
)

const (
	defaultTemporal = "127.0.0.1:7233" // of release dev
	defaultUI       = "http://127.0.0.1:8233"
	// dialLimit is how long a server may take to say that it is there.
	dialLimit = 4 * time.Second
	// workerLimit is long for a worker that only has to answer.
	workerLimit = 5 * time.Second
)

// A server is the Temporal that holds the releases.
type server struct {
	client.Client
	env       *env
	address   string
	namespace string
	dev       *devFile // if it is the one of a running release dev
	summaries sync.Map // of activities, by run and activity ID
}

// temporalOptions are what the environment and Temporal's own configuration
// file say, else those of release dev.
func (e *env) temporalOptions() (client.Options, error) {
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{EnvLookup: e})
	if err != nil {
		return options, fmt.Errorf("read the settings of Temporal: %w", err)
	}
	if options.HostPort == "" {
		options.HostPort = defaultTemporal
		if dev := e.readDevFile(); dev != nil && dev.Temporal != "" {
			options.HostPort = dev.Temporal
		}
	}
	options.Namespace = cmp.Or(options.Namespace, "default")
	options.Identity = "release@" + e.userName()
	options.Logger = log.NewStructuredLogger(cmp.Or(e.logger, slog.New(slog.DiscardHandler)))
	options.ConnectionOptions.GetSystemInfoTimeout = dialLimit
	options.DataConverter = worker.DataConverter()
	return options, nil
}

// temporal connects. The connection lives as long as the process.
func (e *env) temporal(ctx context.Context) (*server, error) {
	options, err := e.temporalOptions()
	if err != nil {
		return nil, err
	}
	s := &server{env: e, address: options.HostPort, namespace: options.Namespace}
	if dev := e.readDevFile(); dev != nil && dev.Temporal == s.address {
		s.dev = dev
	}
	dial, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	if options.ConnectionOptions.TLS == nil { // says at once, and plainly, that nobody is there
		conn, err := new(net.Dialer).DialContext(dial, "tcp", s.address)
		if err != nil {
			return nil, s.unreachable(ctx, dialError(err))
		}
		conn.Close()
	}
	if s.Client, err = client.DialContext(dial, options); err != nil {
		return nil, s.unreachable(ctx, err)
	}
	return s, nil
}

func (s *server) unreachable(ctx context.Context, why error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	//lint:ignore ST1005 Temporal is a name
	return fmt.Errorf("Temporal does not answer at %s: %w; start one with `release dev`, or set TEMPORAL_ADDRESS", s.address, why)
}

// dialError is the innermost reason: "connection refused".
func dialError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// said is an error of Temporal's in words that say what to do.
func (s *server) said(ctx context.Context, doing string, err error) error {
	var unavailable *serviceerror.Unavailable
	var notFound *serviceerror.NotFound
	var denied *serviceerror.PermissionDenied
	var namespace *serviceerror.NamespaceNotFound
	var invalid *serviceerror.InvalidArgument
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &unavailable), errors.Is(err, context.DeadlineExceeded):
		return s.unreachable(ctx, err)
	case errors.As(err, &namespace):
		return fmt.Errorf("%s: Temporal at %s has no namespace %q: set TEMPORAL_NAMESPACE", doing, s.address, s.namespace)
	case errors.As(err, &denied):
		return fmt.Errorf("%s: Temporal at %s refuses: %w; see TEMPORAL_API_KEY and the TLS settings", doing, s.address, err)
	case errors.As(err, &invalid) && strings.Contains(err.Error(), "search attribute"):
		return fmt.Errorf("%s: %w; `release worker` registers the search attributes where it may, else: temporal operator search-attribute create --type Keyword --name ReleaseProject --name ReleaseRevision --name ReleaseEnvironment --name ReleasePhase --name ReleaseOutcome", doing, err)
	case errors.As(err, &notFound):
		return fmt.Errorf("%s: Temporal does not know it (any more): %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// noWorker says whether err means that nobody is there to answer for a
// workflow, while Temporal itself is.
func noWorker(ctx context.Context, err error) bool {
	var late *serviceerror.DeadlineExceeded
	var failed *serviceerror.QueryFailed
	var update *client.WorkflowUpdateServiceTimeoutOrCanceledError
	if ctx.Err() != nil || errors.As(err, &failed) {
		return false
	}
	var precondition *serviceerror.FailedPrecondition // no worker has polled for a while
	return errors.As(err, &late) || errors.As(err, &update) || errors.As(err, &precondition) || errors.Is(err, context.DeadlineExceeded)
}

// local reports whether the server is on this machine.
func (s *server) local() bool {
	host, _, err := net.SplitHostPort(s.address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// page returns where the Web UI shows a workflow, or "" if nothing says where the
// Web UI of this Temporal is. Beside a Temporal on the usual port of this machine
// it is on its usual port: that of release dev, of docker-compose.yml, and of
// temporal server start-dev.
func (s *server) page(id, run string) string {
	base := s.env.getenv("TEMPORAL_UI_ADDRESS")
	switch {
	case base != "":
	case s.dev != nil && s.dev.UI != "":
		base = s.dev.UI
	case strings.Contains(s.address, ".tmprl.cloud:") || strings.Contains(s.address, ".api.temporal.io:"):
		base = "https://cloud.temporal.io"
	case s.local() && strings.HasSuffix(s.address, ":7233"):
		base = defaultUI
	default:
		return ""
	}
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	page := strings.TrimRight(base, "/") + "/namespaces/" + url.PathEscape(s.namespace) + "/workflows/" + url.PathEscape(id)
	if run != "" {
		page += "/" + run
	}
	return page
}

// refusal is what a workflow said no with, or "".
func refusal(err error) string {
	var said *temporal.ApplicationError
	if errors.As(err, &said) {
		return said.Message()
	}
	return ""
}

// isGone reports whether err means that no workflow of that ID is open.
func isGone(err error) bool {
	var unknown *serviceerror.NotFound
	return errors.As(err, &unknown)
}

// Package devserver runs Temporal and its Web UI inside this process, for
// `release dev`, `release demo` and tests.
//
// It is one server on one SQLite file. Teams need Temporal on PostgreSQL or Temporal
// Cloud. config.go explains each setting.
//
// Start reading at Start.
package devserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"go.temporal.io/server/temporal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	loopback = "127.0.0.1"
	// startLimit is far above the duration of a start from a cold disk, a second.
	startLimit = 60 * time.Second
	// stopLimit is above the 5 seconds for which Temporal's services wait for their
	// callers.
	stopLimit = 10 * time.Second
)

// Options configure a Server. The zero value is a server in memory on free ports.
type Options struct {
	Dir        string       // directory of temporal.db, created if missing; "": in memory
	Port       int          // of Temporal; 0: any free port
	UIPort     int          // of the Web UI; 0: any free port
	UIOff      bool         // no Web UI: tests start faster
	Namespace  string       // "default" if empty
	Attributes []string     // search attributes of type Keyword that must exist once Start returns
	Logger     *slog.Logger // receives the server's errors, or at level debug all messages; nil: no log
}

// A Server is a running Temporal server with its Web UI.
type Server struct {
	address   string
	namespace string
	ui        *webUI
	temporal  temporal.Server
	db        *database
	log       *logger
	close     func() error
}

// Start starts a server on 127.0.0.1. It returns when Temporal accepts calls, the
// namespace has the attributes of o, and the Web UI answers. Errors that the user can
// fix are a *PortTakenError, an *OwnedError, a *VersionError or a *LostError. After an
// error nothing keeps running.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	ctx, timeout := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("temporal did not answer within %s", startLimit))
	defer timeout()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	s := &Server{namespace: o.Namespace, log: newLogger(o.Logger, fail)}
	s.close = sync.OnceValue(s.shutdown)
	if err := s.start(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Address returns the host:port of Temporal.
func (s *Server) Address() string { return s.address }

// UI returns the URL of the Web UI without a trailing slash, or "" if it is off.
func (s *Server) UI() string {
	if s.ui == nil {
		return ""
	}
	return s.ui.url
}

// Namespace returns the namespace of the Options.
func (s *Server) Namespace() string { return s.namespace }

// Close stops the server and unlocks the file. Calling it again returns the first
// result. It takes about a second while workers are connected, at most about ten.
func (s *Server) Close() error { return s.close() }

func (s *Server) start(ctx context.Context, o Options) error {
	var err error
	if s.db, err = openDatabase(o.Dir); err != nil {
		return err
	}
	ports, err := holdPorts(o)
	if err != nil {
		return err
	}
	defer ports.close()
	s.address = ports.frontend.Addr().String()
	if err := s.db.prepare(s.address, ports.uiURL(), o.Namespace, o.Attributes); err != nil {
		return err
	}
	if err := s.startTemporal(ctx, ports); err != nil {
		return fmt.Errorf("start temporal at %s: %w", s.address, err)
	}
	conn, err := dialServer(s.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := waitServing(ctx, conn); err != nil {
		return fmt.Errorf("wait for temporal at %s: %w", s.address, err)
	}
	if err := ensureAttributes(ctx, conn, o.Namespace, o.Attributes); err != nil {
		return err
	}
	if !o.UIOff {
		s.ui, err = serveUI(ports.takeUI(), s.address, o.Namespace)
	}
	return err
}

// startTemporal returns when Temporal's services have started. They may not accept
// calls yet.
func (s *Server) startTemporal(ctx context.Context, p *ports) error {
	options := serverOptions(p.numbers(), s.db.sql, s.log)
	p.closeForTemporal()
	type result struct {
		server temporal.Server
		err    error
	}
	done := make(chan result, 1)
	go func() {
		server, err := s.newTemporal(options)
		if err == nil {
			err = server.Start()
		}
		done <- result{server, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		select { // a start cannot be interrupted: wait until it ends
		case r = <-done:
		case <-time.After(stopLimit):
			s.db = nil // it may still write: keep the lock
		}
	}
	s.temporal = r.server
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return r.err
}

// newTemporal creates the server and opens its ports. It returns calls of Fatal as
// errors.
func (s *Server) newTemporal(options []temporal.ServerOption) (server temporal.Server, err error) {
	s.log.constructing.Store(true)
	defer s.log.constructing.Store(false)
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(fatalError)
			if !ok {
				panic(p)
			}
			server, err = nil, f.error
		}
	}()
	made, err := temporal.NewServer(options...)
	if err != nil {
		return nil, err
	}
	return made, nil
}

// shutdown implements Close.
func (s *Server) shutdown() error {
	s.log.mute()
	if s.ui != nil {
		s.ui.close()
	}
	if s.temporal != nil {
		stopped := make(chan error, 1)
		go func() { stopped <- s.temporal.Stop() }()
		select {
		case err := <-stopped:
			if err != nil {
				return fmt.Errorf("stop temporal: %w", err)
			}
		case <-time.After(stopLimit):
			// It may still write: keep the lock until this process ends.
			return fmt.Errorf("stop temporal: not done after %s", stopLimit)
		}
	}
	if s.db == nil {
		return nil
	}
	return s.db.close()
}

// dialServer returns a connection that retries at short intervals: gRPC's default for
// the first retry is longer than a start of the server.
func dialServer(address string) (*grpc.ClientConn, error) {
	retry := backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond}
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
}

// waitServing waits until the health service reports the frontend as serving.
func waitServing(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{
		Service: "temporal.api.workflowservice.v1.WorkflowService",
	})
	for err == nil {
		var now *healthpb.HealthCheckResponse
		if now, err = watch.Recv(); err == nil && now.Status == healthpb.HealthCheckResponse_SERVING {
			return nil
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func hostPort(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// Package devserver is Temporal and its Web UI inside this process: for
// `release dev`, `release demo` and tests, where nobody has set up a Temporal.
//
// It is one server on one SQLite file and is not made for a team; Temporal on
// PostgreSQL and Temporal Cloud are. What it must follow, and why, is said
// beside each setting in config.go.
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
	// startLimit is far above the second that a start takes from a cold disk.
	startLimit = 60 * time.Second
	// stopLimit is above the five seconds in which Temporal's services give up
	// waiting for their callers.
	stopLimit = 10 * time.Second
)

// Options say where Temporal keeps its data and where it listens. The zero
// value is a server in memory on free ports.
type Options struct {
	Dir        string       // directory of temporal.db, made if missing; "" keeps everything in memory
	Port       int          // of Temporal; 0 is any free one
	UIPort     int          // of the Web UI; 0 is any free one
	UIOff      bool         // no Web UI: tests start faster
	Namespace  string       // "default" if empty
	Attributes []string     // search attributes of type Keyword that must exist once Start returns
	Logger     *slog.Logger // gets the server's errors, and all it says if enabled for debug; nil is silence
}

// A Server is a running Temporal.
type Server struct {
	address   string
	namespace string
	ui        *webUI
	temporal  temporal.Server
	data      *data
	log       *logger
	close     func() error
}

// Start returns when Temporal takes calls, the namespace has the attributes
// asked for, and the Web UI answers. It fails with a *PortTakenError, an
// *OwnedError or a *VersionError where the user can do something about it, and
// then leaves nothing running. Everything listens on 127.0.0.1 only.
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

// Address is where clients and workers reach Temporal, as host:port.
func (s *Server) Address() string { return s.address }

// UI is the URL of the Web UI without a slash at its end, or "" if it is off.
func (s *Server) UI() string {
	if s.ui == nil {
		return ""
	}
	return s.ui.url
}

// Namespace is the one that Options asked for.
func (s *Server) Namespace() string { return s.namespace }

// Close stops everything and lets the next owner have the file. Calling it
// again returns the first answer. It takes about a second when workers are
// connected and never much more than ten.
func (s *Server) Close() error { return s.close() }

func (s *Server) start(ctx context.Context, o Options) error {
	var err error
	if s.data, err = openData(o.Dir); err != nil {
		return err
	}
	ports, err := holdPorts(o)
	if err != nil {
		return err
	}
	defer ports.free()
	s.address = ports.frontend.Addr().String()
	if err := s.data.prepare(s.address, ports.uiURL(), o.Namespace, o.Attributes); err != nil {
		return err
	}
	if err := s.startTemporal(ctx, ports); err != nil {
		return fmt.Errorf("starting temporal at %s: %w", s.address, err)
	}
	conn, err := connect(s.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := waitServing(ctx, conn); err != nil {
		return fmt.Errorf("waiting for temporal at %s: %w", s.address, err)
	}
	if err := registerAttributes(ctx, conn, o.Namespace, o.Attributes); err != nil {
		return err
	}
	if !o.UIOff {
		s.ui, err = serveUI(ports.takeUI(), s.address, o.Namespace)
	}
	return err
}

// startTemporal returns when Temporal's services have begun, which is before
// they take calls.
func (s *Server) startTemporal(ctx context.Context, p *ports) error {
	options := serverOptions(p.numbers(), s.data.sql, s.log)
	p.freeForTemporal()
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
		select { // nothing interrupts a start: let it end before it is undone
		case r = <-done:
		case <-time.After(stopLimit):
			s.data = nil // it may still write: keep the lock
		}
	}
	s.temporal = r.server
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return r.err
}

// newTemporal makes the server and opens its ports.
func (s *Server) newTemporal(options []temporal.ServerOption) (server temporal.Server, err error) {
	s.log.making.Store(true)
	defer s.log.making.Store(false)
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(fatal)
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

func (s *Server) shutdown() error {
	s.log.quiet()
	if s.ui != nil {
		s.ui.close()
	}
	if s.temporal != nil {
		stopped := make(chan error, 1)
		go func() { stopped <- s.temporal.Stop() }()
		select {
		case err := <-stopped:
			if err != nil {
				return fmt.Errorf("stopping temporal: %w", err)
			}
		case <-time.After(stopLimit):
			// It may still write: the lock is kept until this process ends.
			return fmt.Errorf("stopping temporal: not done after %s", stopLimit)
		}
	}
	if s.data == nil {
		return nil
	}
	return s.data.close()
}

// connect returns a connection that keeps trying at short intervals: gRPC's
// own first pause is longer than a whole start.
func connect(address string) (*grpc.ClientConn, error) {
	pause := backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond}
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
}

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

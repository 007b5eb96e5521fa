// Package service is the HTTP server of the three reference services: it has a health
// check, structured logs and a graceful shutdown. It uses only the standard library, so
// that the services compile in a second.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// drainTimeout is how long open requests may take after SIGTERM. It is shorter than
// kill_timeout in the fly.toml files.
const drainTimeout = 10 * time.Second

// A Service is an HTTP server with its routes and its health check.
type Service struct {
	Name    string
	Healthy func() error // called by each GET /health; an error answers 503
	Routes  func(mux *http.ServeMux, log *slog.Logger) error
}

// Main runs s with the process's environment until SIGTERM or SIGINT, and
// returns the exit code.
func (s Service) Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := s.run(ctx, os.Stdout, os.Getenv, nil); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.Name, err)
		return 1
	}
	return 0
}

// run serves until ctx ends, then waits for open requests. When it listens, it sends its
// address on ready unless that is nil.
func (s Service) run(ctx context.Context, stdout io.Writer, getenv func(string) string, ready chan<- net.Addr) error {
	conf, err := readSettings(getenv)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stdout, &slog.HandlerOptions{Level: conf.level})).With(
		"service", s.Name, "machine", getenv("FLY_MACHINE_ID"), "region", getenv("FLY_REGION"))

	var draining atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.handleHealth(&draining, log))
	if err := s.Routes(mux, log); err != nil {
		return err
	}
	server := &http.Server{
		Handler:           logRequests(mux, log, conf.traces),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(conf.host, conf.port))
	if err != nil {
		return fmt.Errorf("listen on port %s: %w; set PORT to use another port", conf.port, err)
	}
	log.Info("listening", "address", listener.Addr().String())
	if ready != nil {
		ready <- listener.Addr()
	}

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	draining.Store(true)
	log.Info("stopping, waiting for open requests", "within", drainTimeout.String())
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return fmt.Errorf("open requests were closed after %v: %w", drainTimeout, err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	log.Info("stopped")
	return nil
}

// handleHealth answers 200 while the service is healthy and not stopping, else 503 with
// the reason, which Fly shows with its check.
func (s Service) handleHealth(draining *atomic.Bool, log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		err := s.Healthy()
		if err == nil && draining.Load() {
			err = errors.New("stopping")
		}
		if err != nil {
			log.Warn("not healthy", "error", err.Error())
			JSON(w, http.StatusServiceUnavailable, map[string]string{"status": "unhealthy", "service": s.Name, "error": err.Error()})
			return
		}
		JSON(w, http.StatusOK, map[string]string{"status": "ok", "service": s.Name})
	}
}

// settings are the values of environment variables.
type settings struct {
	host, port string
	level      slog.Level
	traces     float64
}

// readSettings reads the settings, and fails on an invalid one.
func readSettings(getenv func(string) string) (settings, error) {
	conf := settings{host: getenv("HOST"), port: getenv("PORT")}
	if conf.port == "" {
		conf.port = "8080"
	}
	if _, err := strconv.ParseUint(conf.port, 10, 16); err != nil {
		return conf, fmt.Errorf("PORT is %q; must be a number up to 65535", conf.port)
	}
	if v := getenv("LOG_LEVEL"); v != "" {
		if err := conf.level.UnmarshalText([]byte(v)); err != nil {
			return conf, fmt.Errorf("LOG_LEVEL is %q; must be debug, info, warn or error", v)
		}
	}
	if v := getenv("SENTRY_TRACES_SAMPLE_RATE"); v != "" {
		rate, err := strconv.ParseFloat(v, 64)
		if err != nil || !(rate >= 0 && rate <= 1) {
			return conf, fmt.Errorf("SENTRY_TRACES_SAMPLE_RATE is %q; must be a number from 0 to 1", v)
		}
		conf.traces = rate
	}
	return conf, nil
}

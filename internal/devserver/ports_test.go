package devserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

func TestStart_TakenPort(t *testing.T) {
	taken, err := listenFree()
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := portOf(taken)
	for name, test := range map[string]struct {
		options Options
		purpose string
	}{
		"Temporal": {Options{Port: port}, "Temporal"},
		"Web UI":   {Options{UIPort: port}, "the Temporal Web UI"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Start(t.Context(), test.options)
			var e *PortTakenError
			if !errors.As(err, &e) || e.Port != port || e.For != test.purpose {
				t.Fatalf("port %d is in use, got: %v", port, err)
			}
			if runtime.GOOS != "linux" {
				t.Skip("the owner of a port is known on Linux only")
			}
			if want := fmt.Sprintf("process %d (", os.Getpid()); !strings.Contains(err.Error(), want) {
				t.Errorf("the error lacks the owner, %s…: %v", want, err)
			}
		})
	}
}

// Another process may take a port between its reservation and Temporal's bind. That
// must not crash this process.
func TestStartTemporal_PortTakenBeforeBind(t *testing.T) {
	for name, port := range map[string]func(*ports) int{
		"frontend": func(p *ports) int { return portOf(p.frontend) },
		"history":  func(p *ports) int { return portOf(p.internal[0]) },
		"matching": func(p *ports) int { return portOf(p.internal[1]) },
	} {
		t.Run(name, func(t *testing.T) {
			p, err := holdPorts(Options{UIOff: true})
			if err != nil {
				t.Fatal(err)
			}
			p.closeForTemporal()
			other, err := listenOn(port(p), "another process")
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if err := startTemporalOn(t, p); err == nil || !strings.Contains(err.Error(), "address already in use") {
				t.Errorf("got %v, want an error that the address is in use", err)
			}
		})
	}
}

// startTemporalOn runs the part of Start after its ports were reserved.
func startTemporalOn(t *testing.T, p *ports) error {
	t.Helper()
	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	d, err := openDatabase("")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.prepare("", "", "default", nil); err != nil {
		t.Fatal(err)
	}
	s := &Server{db: d, log: newLogger(nil, fail)}
	if err := s.startTemporal(ctx, p); err != nil {
		s.shutdown()
		return err
	}
	<-ctx.Done()
	s.shutdown()
	return context.Cause(ctx)
}

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

func TestTakenPortIsNamed(t *testing.T) {
	taken, err := listenAnywhere()
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
				t.Fatalf("port %d is taken, but: %v", port, err)
			}
			if runtime.GOOS != "linux" {
				t.Skip("who holds a port is only known on Linux")
			}
			if want := fmt.Sprintf("process %d (", os.Getpid()); !strings.Contains(err.Error(), want) {
				t.Errorf("it should say who holds it, %s…: %v", want, err)
			}
		})
	}
}

// Between our look and Temporal's there is a moment. What takes the port in it
// must not make the process crash.
func TestPortTakenAtTheLastMoment(t *testing.T) {
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
			p.freeForTemporal()
			thief, err := listen(port(p), "the thief")
			if err != nil {
				t.Fatal(err)
			}
			defer thief.Close()
			if err := startOn(t, p); err == nil || !strings.Contains(err.Error(), "address already in use") {
				t.Errorf("want an error that says so, got: %v", err)
			}
		})
	}
}

// startOn is Start from the moment at which its ports are let go.
func startOn(t *testing.T, p *ports) error {
	t.Helper()
	ctx, fail := context.WithCancelCause(t.Context())
	defer fail(nil)
	d, err := openData("")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.prepare("", "", "default", nil); err != nil {
		t.Fatal(err)
	}
	s := &Server{data: d, log: newLogger(nil, fail)}
	if err := s.startTemporal(ctx, p); err != nil {
		s.shutdown()
		return err
	}
	<-ctx.Done()
	s.shutdown()
	return context.Cause(ctx)
}

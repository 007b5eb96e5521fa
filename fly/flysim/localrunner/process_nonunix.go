//go:build !unix

package localrunner

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"time"
)

// errSystem is the error of Open on a system without process groups and signals.
var errSystem = fmt.Errorf("machines can't run as processes on %s: use Linux or macOS", runtime.GOOS)

// A process is never started on this system.
type process struct{}

func (*process) Addr(int) string                                   { return "" }
func (*process) ListeningPorts([]int) []int                        { return nil }
func (*process) Done() <-chan struct{}                             { return nil }
func (*process) ExitCode() int                                     { return 0 }
func (*process) Log() []string                                     { return nil }
func (*process) Stop(context.Context, string, time.Duration) error { return errSystem }
func (*process) kill()                                             {}

type spawner chan func()

func newSpawner() spawner { return make(spawner) }

func (spawner) startProcess(*exec.Cmd, int, *processLog, func(*process)) (*process, error) {
	return nil, errSystem
}

func writePIDFile(string, int) (string, error) { return "", errSystem }

// killStrays returns errSystem, so that Open fails.
func killStrays(string, string) error { return errSystem }

// killMarked does nothing: this system has no processes of an earlier run.
func killMarked(string) error { return nil }

//go:build !unix

package image

import (
	"fmt"
	"os/exec"
	"runtime"
)

// killWithChildren returns an error: a cancelled build would leave processes
// behind, because this system has no process groups.
func killWithChildren(*exec.Cmd) error { return checkSystem() }

// checkSystem returns an error if Go can't build on this operating system.
func checkSystem() error {
	return fmt.Errorf("Go programs can't be built on %s, which has no process groups: run the worker on Linux or macOS", runtime.GOOS)
}

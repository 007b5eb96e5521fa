//go:build !unix

package image

import (
	"fmt"
	"runtime"
)

// checkSystem returns an error if Go can't build on this operating system: a cancelled
// build would leave processes behind.
func checkSystem() error {
	return fmt.Errorf("Go programs can't be built on %s, which has no process groups: run the worker on Linux or macOS", runtime.GOOS)
}

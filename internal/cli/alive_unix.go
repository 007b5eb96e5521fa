//go:build !windows

package cli

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// isProcessAlive reports whether there is a process with that ID.
func isProcessAlive(pid int) bool {
	if pid <= 0 {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, fs.ErrPermission)
}

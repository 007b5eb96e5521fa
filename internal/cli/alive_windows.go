package cli

import "os"

// isProcessAlive reports whether there is a process with that ID: on Windows
// FindProcess opens it.
func isProcessAlive(pid int) bool {
	if pid <= 0 {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	p.Release()
	return true
}

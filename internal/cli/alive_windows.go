package cli

import "os"

// isProcessAlive reports whether a process with that ID exists: FindProcess opens it on
// Windows.
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

//go:build !unix

package activities

import (
	"os/exec"
	"time"
)

// ownGroup is for systems with process groups; elsewhere only cmd itself is
// ended.
func ownGroup(cmd *exec.Cmd) { cmd.WaitDelay = 5 * time.Second }

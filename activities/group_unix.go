//go:build unix

package activities

import (
	"os/exec"
	"syscall"
	"time"
)

// ownGroup makes cmd the head of a process group, so that what it started ends
// with it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
}

//go:build unix

// Package procgroup runs commands so that the processes they start end with them.
package procgroup

import (
	"os/exec"
	"syscall"
)

// Set makes cmd, which has not been started, the head of a process group. Cancelling the
// context of cmd kills the whole group.
func Set(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return Kill(cmd) }
}

// Kill kills what is left of the group of cmd, which has been started. It returns an
// error if nothing is left. The system gives no other process the number of a group that
// has members.
func Kill(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

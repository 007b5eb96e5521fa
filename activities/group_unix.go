//go:build unix

package activities

import (
	"os/exec"
	"syscall"
)

// ownGroup makes cmd the head of a process group, so that what it started ends
// with it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return endGroup(cmd) }
}

// endGroup kills what is left of cmd's group. The system gives no process a
// group's number while it has members.
func endGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

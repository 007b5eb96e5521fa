//go:build unix

package activities

import (
	"os/exec"
	"syscall"
)

// setGroup makes cmd the head of a process group, so that the processes that it starts
// end with it.
func setGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd) }
}

// killGroup kills the processes of cmd's group. The system gives no process a group's
// number while it has members.
func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

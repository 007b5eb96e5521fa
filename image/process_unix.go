//go:build unix

package image

import (
	"os/exec"
	"syscall"
)

// killWithChildren makes the cancellation of cmd kill its whole process group.
func killWithChildren(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return nil
}

// checkSystem returns an error if Go can't build on this operating system.
func checkSystem() error { return nil }

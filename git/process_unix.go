//go:build unix

package git

import (
	"os/exec"
	"syscall"
)

// systemEnv lists the env vars that git needs on this system alone.
var systemEnv []string

// killWithChildren makes the cancellation of cmd kill its whole process group.
func killWithChildren(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

//go:build unix && !linux

package localrunner

import (
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func newProcessGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// wait returns when the process has ended and the rest of its group was killed.
func (p *process) waitGroup() {
	_ = p.cmd.Wait() // how it ended is in ProcessState
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) // most often it was alone
	p.reaped = true
}

// processStart is when a process was started, to the second.
func processStart(pid int) (string, error) {
	out, err := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output()
	return strings.TrimSpace(string(out)), err
}

// listensAt reports whether anybody listens at a port: whose it is can't be read.
func (p *process) listensAt(port int) bool {
	conn, err := net.DialTimeout("tcp", loopbackAddr(port), time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// marked finds nobody: other processes' environments can't be read here.
func markedPIDs(string) []int { return nil }

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

// waitGroup returns when the process has ended and the rest of its group was
// killed.
func (p *process) waitGroup() {
	_ = p.cmd.Wait() // the result is in ProcessState
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) // the group may be empty
	p.reaped = true
}

// processStart returns when a process was started, to the second.
func processStart(pid int) (string, error) {
	out, err := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output()
	return strings.TrimSpace(string(out)), err
}

// ownPorts returns PORT if any process listens on it: the owner of a port can't be read
// here.
func (p *process) ownPorts() []int {
	conn, err := net.DialTimeout("tcp", loopbackAddr(p.port), time.Second)
	if err != nil {
		return nil
	}
	_ = conn.Close()
	return []int{p.port}
}

// markedPIDs returns nothing: the environment of other processes can't be read
// here.
func markedPIDs(string) []int { return nil }

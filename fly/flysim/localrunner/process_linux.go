package localrunner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

func newProcessGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
}

// waitGroup returns when the process has ended and the rest of its group was
// killed. It kills the group while the leader is a zombie and so keeps its ID.
func (p *process) waitGroup() {
	pid := p.cmd.Process.Pid
	for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Kill(-pid, unix.SIGKILL) // the group may be empty
	_ = p.cmd.Wait()                  // the result is in ProcessState
	p.reaped = true
}

// processStart returns the boot ID and the clock tick at which a process was
// started.
func processStart(pid int) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is the program's name in parentheses, which may contain
	// any character.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat: %q has no start time", pid, stat)
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[19], nil
}

// ownPorts returns the TCP ports on which p and its descendants listen, on any address.
func (p *process) ownPorts() (ports []int) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil
	}
	bySocket := map[string]int{} // by the name that file descriptors have
	//lint:ignore SA1019 slow where there are very many sockets, and rarely called
	for _, list := range []func() (procfs.NetTCP, error){fs.NetTCP, fs.NetTCP6} {
		lines, _ := list() // does not exist on a system without IPv6
		for _, line := range lines {
			if line.St == listening {
				bySocket[fmt.Sprintf("socket:[%d]", line.Inode)] = int(line.LocalPort)
			}
		}
	}
	all, err := fs.AllProcs()
	if err != nil {
		return nil
	}
	for _, one := range all {
		if !p.hasDescendant(one) {
			continue
		}
		open, _ := one.FileDescriptorTargets() // fails for a process that has ended
		for _, name := range open {
			if port, ok := bySocket[name]; ok && !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	return ports
}

// hasDescendant reports whether one is p, or was started by it: it is in p's group, or it
// left the group and has the env vars that identify p's machine.
func (p *process) hasDescendant(one procfs.Proc) bool {
	if group, err := unix.Getpgid(one.PID); err == nil && group == p.cmd.Process.Pid {
		return true
	}
	env, err := one.Environ() // fails for another user's process, and for one that has ended
	if err != nil {
		return false
	}
	for _, entry := range p.cmd.Env {
		isIdentity := strings.HasPrefix(entry, markerName+"=") || strings.HasPrefix(entry, "FLY_MACHINE_ID=")
		if isIdentity && !slices.Contains(env, entry) {
			return false
		}
	}
	return true
}

// listening is the state of a listening TCP socket in /proc/net/tcp.
const listening = 0x0a

// markedPIDs returns the processes, except this one, with marker in their
// environment. Children inherit it, also those that left the group.
func markedPIDs(marker string) []int {
	var pids []int
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil
	}
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil {
			continue // of another user, or ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && pid != os.Getpid() && slices.Contains(strings.Split(string(env), "\x00"), marker) {
			pids = append(pids, pid)
		}
	}
	return pids
}

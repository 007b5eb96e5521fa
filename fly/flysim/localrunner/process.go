//go:build unix

package localrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Fly's defaults where a machine's config does not say how to stop.
const (
	defaultSignal      = "SIGINT"
	defaultStopTimeout = 5 * time.Second
)

// A process is a running machine: the leader of its own process group.
type process struct {
	cmd    *exec.Cmd
	port   int
	logs   *processLog
	output *os.File // output of the group
	done   chan struct{}

	mu     sync.Mutex // while it is held, the group's ID can't be reused
	reaped bool
	code   int // set before done is closed
}

// A spawner starts processes from one thread that lives as long as the spawner:
// Linux sends the parent-death signal when the thread that started a process
// ends.
type spawner chan func()

func newSpawner() spawner {
	s := make(spawner)
	go func() {
		runtime.LockOSThread()
		for f := range s {
			f()
		}
	}()
	return s
}

// startProcess starts cmd in its own process group. It calls finished when the
// whole group has ended, before Done is closed.
func (s spawner) startProcess(cmd *exec.Cmd, port int, logs *processLog, finished func(*process)) (*process, error) {
	output, printed, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = printed, printed
	cmd.SysProcAttr = newProcessGroup()
	started := make(chan error)
	s <- func() { started <- cmd.Start() }
	err = <-started
	printed.Close() // the process has its own copy
	if err != nil {
		return nil, errors.Join(err, output.Close())
	}
	p := &process{cmd: cmd, port: port, logs: logs, output: output, done: make(chan struct{})}
	go p.watchProcess(finished)
	return p, nil
}

func (p *process) watchProcess(finished func(*process)) {
	read := make(chan struct{})
	go func() {
		p.logs.readLines(p.output)
		close(read)
	}()
	p.waitGroup()
	p.code = exitCode(p.cmd.ProcessState)
	// A process that left the group may keep the pipe open. The output of the
	// group is already in the pipe.
	_ = p.output.SetReadDeadline(time.Now().Add(time.Second))
	<-read
	p.output.Close()
	p.logs.close()
	finished(p)
	close(p.done)
}

// Addr returns the address of the process, the same for every internal port:
// the process has one port, PORT.
func (p *process) Addr(int) string { return loopbackAddr(p.port) }

// ListeningPorts returns the TCP ports on which the process or a descendant listens, and
// never those of another program. PORT stands for all internal ports.
func (p *process) ListeningPorts(internal []int) (ports []int) {
	for _, port := range p.ownPorts() {
		if port == p.port {
			ports = append(ports, internal...)
		} else {
			ports = append(ports, port)
		}
	}
	return ports
}

// Done is closed when the process and the rest of its group have ended.
func (p *process) Done() <-chan struct{} { return p.done }

// ExitCode returns the exit code of the process or, as shells do, 128 plus the
// number of the signal that ended it. It is 0 before Done.
func (p *process) ExitCode() int {
	select {
	case <-p.done:
		return p.code
	default:
		return 0
	}
}

// Log returns the last 200 lines of the process's stdout and stderr.
func (p *process) Log() []string { return p.logs.tail() }

// Stop sends signal to the process, as Fly's init does, and kills its group
// after timeout or when ctx ends. "" is SIGINT, and 0 is Fly's 5s. Stopping a
// process that has ended is not an error.
func (p *process) Stop(ctx context.Context, signal string, timeout time.Duration) error {
	sig, err := signalNamed(signal)
	if err != nil {
		return err
	}
	if timeout <= 0 {
		timeout = defaultStopTimeout
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	p.sendSignal(p.cmd.Process.Pid, sig)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("stop process %d: %w; it was killed", p.cmd.Process.Pid, ctx.Err())
	case <-timer.C:
		p.kill()
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop process %d, killed after %s: %w", p.cmd.Process.Pid, timeout, ctx.Err())
	}
}

// kill kills the whole group. Done is closed when it has ended.
func (p *process) kill() { p.sendSignal(-p.cmd.Process.Pid, unix.SIGKILL) }

func (p *process) sendSignal(to int, sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(to, sig) // fails if it has already ended
	}
}

func exitCode(s *os.ProcessState) int {
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return s.ExitCode()
}

func signalNamed(name string) (syscall.Signal, error) {
	if name == "" {
		name = defaultSignal
	}
	if n, err := strconv.Atoi(name); err == nil && n > 0 {
		return syscall.Signal(n), nil
	}
	upper := strings.ToUpper(name)
	if sig := unix.SignalNum("SIG" + strings.TrimPrefix(upper, "SIG")); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("%q is not a signal; use SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2 or SIGTERM", name)
}

// A pidRecord is the content of a pid file. The kernel may have reused the pid
// alone by the time the file is read.
type pidRecord struct {
	PID   int    `json:"pid"`
	Birth string `json:"birth"` // distinguishes it from other processes with this pid
}

// writePIDFile records that pid is ours and returns the file to remove later;
// "" for a process that has already ended.
func writePIDFile(dir string, pid int) (string, error) {
	born, err := processStart(pid)
	if err != nil {
		return "", nil
	}
	doc, err := json.Marshal(pidRecord{pid, born})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, strconv.Itoa(pid)+".json")
	if err := writeFileAtomic(path, doc); err != nil {
		return "", fmt.Errorf("record process %d: %w", pid, err)
	}
	return path, nil
}

// killStrays kills the processes that an earlier owner of dir has left: the
// groups of recorded processes, and every process that has marker.
func killStrays(dir, marker string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		doc, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var r pidRecord
		if json.Unmarshal(doc, &r) == nil && r.PID > 1 {
			if born, err := processStart(r.PID); err == nil && born == r.Birth {
				_ = unix.Kill(-r.PID, unix.SIGKILL) // fails if it has already ended
			}
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return killMarked(marker)
}

// killMarked kills every process that has marker, and those that they start
// meanwhile.
func killMarked(marker string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		pids := markedPIDs(marker)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of an earlier run do not end after SIGKILL: end them by hand", pids)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // fails if it has already ended
		}
		time.Sleep(2 * time.Millisecond) // the end of a process that is not our child can't be waited for
	}
}

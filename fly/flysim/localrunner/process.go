package localrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
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

// What Fly does when a machine's config says nothing of stopping.
const (
	defaultSignal      = "SIGINT"
	defaultStopTimeout = 5 * time.Second
)

// A process is a machine that runs: the leader of a process group of its own.
type process struct {
	cmd    *exec.Cmd
	port   int
	logs   *processLog
	output *os.File // what the group prints
	done   chan struct{}

	mu     sync.Mutex // while held, the group's ID can't become somebody else's
	reaped bool
	code   int // set before done is closed
}

// A spawner starts processes from one thread, which lives as long as it does:
// Linux takes the death of the thread that started a process for the death of
// the process's parent.
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

// run starts cmd in its own group; finished is called when all of it has ended,
// before Done.
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
	printed.Close() // the process has its own
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
	// Somebody who left the group may hold the other end open. What the group
	// itself printed is in the pipe already.
	_ = p.output.SetReadDeadline(time.Now().Add(time.Second))
	<-read
	p.output.Close()
	p.logs.close()
	finished(p)
	close(p.done)
}

// Addr is where the process listens, whatever the internal port: it has one
// port, which it is told in PORT.
func (p *process) Addr(int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// Listens reports whether the process listens at its port, rather than another
// program that took the port because nobody did.
func (p *process) Listens(int) bool { return p.listensAt(p.port) }

// Done is closed when the process has ended, and with it the rest of its group.
func (p *process) Done() <-chan struct{} { return p.done }

// ExitCode is the process's own or, when a signal ended it, 128 and the signal's
// number, as shells have it. It is 0 before Done.
func (p *process) ExitCode() int {
	select {
	case <-p.done:
		return p.code
	default:
		return 0
	}
}

// Log is the last 200 lines the process has printed, on either stream.
func (p *process) Log() []string { return p.logs.tail() }

// Stop sends signal to the process, as Fly's init does, and kills its group if
// it has not ended after timeout, or when ctx ends. "" is SIGINT, and no timeout
// is Fly's 5s. Stopping a process that has ended is no error.
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

// kill ends the whole group. Its end is told by Done.
func (p *process) kill() { p.sendSignal(-p.cmd.Process.Pid, unix.SIGKILL) }

func (p *process) sendSignal(to int, sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(to, sig) // it may have ended by itself, which is as good
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
	return 0, fmt.Errorf("no signal is called %q; Fly knows SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2 and SIGTERM", name)
}

// A pidRecord is the content of a pid file. A pid alone may be somebody else's
// by the time it is read.
type pidRecord struct {
	PID   int    `json:"pid"`
	Birth string `json:"birth"` // what tells it from others with this pid
}

// record writes down that pid is ours. It returns the file to remove later: none
// for a process that has ended already.
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

// endStrays ends what an earlier owner of dir has left running: the groups of
// processes on record, and whoever still carries marker.
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
				_ = unix.Kill(-r.PID, unix.SIGKILL) // it may have ended by itself
			}
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return killMarked(marker)
}

// endMarked kills every process that carries marker, and those it starts
// meanwhile.
func killMarked(marker string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		pids := markedPIDs(marker)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of an earlier run do not end: end them by hand", pids)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended by itself
		}
		time.Sleep(2 * time.Millisecond) // nothing tells when a process that is no child of ours has ended
	}
}

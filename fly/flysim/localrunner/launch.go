package localrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/microbima/release/fly/flysim"
)

var errClosed = errors.New("flysim is closing")

func (r *Runner) startMachine(ctx context.Context, m flysim.Instance) (*process, error) {
	if !filepath.IsLocal(m.ID) || m.ID != filepath.Base(m.ID) {
		return nil, fmt.Errorf("%q can't be a machine's ID", m.ID)
	}
	next := launch{machine: m, marker: r.marker, url: r.URL}
	if err := json.Unmarshal(m.Config, &next.config); err != nil {
		return nil, fmt.Errorf("read its config: %w", err)
	}
	var err error
	if next.image, err = r.images.unpack(ctx, next.config.Image); err != nil {
		return nil, err
	}
	r.launching.RLock()
	defer r.launching.RUnlock()
	if r.isClosed() {
		return nil, errClosed
	}
	if next.scratch, err = os.MkdirTemp(r.path("scratch"), m.ID+"-*"); err != nil {
		return nil, err
	}
	if next.port, err = r.ports.reserve(); err != nil {
		return nil, err // the next Open removes the empty folder
	}
	return r.startProcess(next)
}

// startProcess starts the process and keeps a record of it until it has ended.
func (r *Runner) startProcess(next launch) (*process, error) {
	cmd, err := next.buildCommand()
	if err != nil {
		r.releaseResources(next)
		return nil, err
	}
	logs, err := openProcessLog(r.path("logs", next.machine.ID+".log"))
	if err != nil {
		r.releaseResources(next)
		return nil, err
	}
	for _, line := range next.config.unsupportedLines() {
		logs.appendLine(line)
	}
	recorded := make(chan struct{})
	p, err := r.spawner.startProcess(cmd, next.port, logs, func(p *process) {
		<-recorded
		r.removeProcess(p, next)
	})
	if err != nil {
		logs.close()
		r.releaseResources(next)
		return nil, explainStartError(next.config.Image, cmd.Args[0], err)
	}
	defer close(recorded)
	file, err := writePIDFile(r.path("processes"), cmd.Process.Pid)
	r.mu.Lock()
	r.running[p] = file
	r.mu.Unlock()
	if err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// removeProcess deletes the record of a process that has ended.
func (r *Runner) removeProcess(p *process, had launch) {
	r.mu.Lock()
	file := r.running[p]
	delete(r.running, p)
	r.mu.Unlock()
	if file != "" {
		_ = os.Remove(file) // the next Open finds that it has ended
	}
	r.releaseResources(had)
}

func (r *Runner) releaseResources(had launch) {
	_ = os.RemoveAll(had.scratch) // the next Open removes the rest
	r.ports.release(had.port)
}

func (r *Runner) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

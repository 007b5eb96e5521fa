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

func (l *Runner) start(ctx context.Context, m flysim.Instance) (*process, error) {
	if !filepath.IsLocal(m.ID) || m.ID != filepath.Base(m.ID) {
		return nil, fmt.Errorf("%q can't be a machine's ID", m.ID)
	}
	next := launch{machine: m, marker: l.marker, url: l.URL}
	if err := json.Unmarshal(m.Config, &next.config); err != nil {
		return nil, fmt.Errorf("read its config: %w", err)
	}
	var err error
	if next.image, err = l.images.unpack(ctx, next.config.Image); err != nil {
		return nil, err
	}
	l.launching.RLock()
	defer l.launching.RUnlock()
	if l.isClosed() {
		return nil, errClosed
	}
	if next.scratch, err = os.MkdirTemp(l.path("scratch"), m.ID+"-*"); err != nil {
		return nil, err
	}
	if next.port, err = l.ports.lease(); err != nil {
		return nil, err // the next Runner removes the empty folder
	}
	return l.run(next)
}

// run starts the process and keeps it on record until it has ended.
func (l *Runner) run(next launch) (*process, error) {
	cmd, err := next.command()
	if err != nil {
		l.giveBack(next)
		return nil, err
	}
	logs, err := openLogbook(l.path("logs", next.machine.ID+".log"))
	if err != nil {
		l.giveBack(next)
		return nil, err
	}
	for _, line := range next.config.missing() {
		logs.add(line)
	}
	recorded := make(chan struct{})
	p, err := l.spawn.run(cmd, next.port, logs, func(p *process) {
		<-recorded
		l.forget(p, next)
	})
	if err != nil {
		logs.close()
		l.giveBack(next)
		return nil, refusal(next.config.Image, cmd.Args[0], err)
	}
	defer close(recorded)
	file, err := record(l.path("processes"), cmd.Process.Pid)
	l.mu.Lock()
	l.running[p] = file
	l.mu.Unlock()
	if err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// forget takes a process that has ended off the record.
func (l *Runner) forget(p *process, had launch) {
	l.mu.Lock()
	file := l.running[p]
	delete(l.running, p)
	l.mu.Unlock()
	if file != "" {
		_ = os.Remove(file) // the next Runner sees that it has ended
	}
	l.giveBack(had)
}

func (l *Runner) giveBack(had launch) {
	_ = os.RemoveAll(had.scratch) // the next Runner removes what is left
	l.ports.giveBack(had.port)
}

func (l *Runner) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

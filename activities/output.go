package activities

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/microbima/release/release"
)

// tailBytes is how much of an output goes into a history. All of it is in the
// worker's log folder.
const tailBytes = 16 << 10

// An output is kept whole in a file of the worker's, and its end in memory.
type output struct {
	name string   // relative to the log folder: a history holds no machine's paths
	file *os.File // nil: there is no log folder

	mu   sync.Mutex
	size int64
	tail []byte
	end  []byte // of what the file does not have
}

// An output that has more than maxOutput bytes is kept as those, a line that
// says how many are left out, and the last maxEnd.
const (
	maxOutput = 64 << 20
	maxEnd    = 1 << 20
)

// kept is what is kept of something that printed.
type kept struct {
	log  string // names the file
	took release.Duration
	tail string
}

// keeping does what prints, and tells heartbeats what it prints.
func (a *Activities) keeping(ctx context.Context, what string, do func(out *output) error) (kept, error) {
	out, err := a.output(ctx, what)
	if err != nil {
		return kept{}, err
	}
	defer out.Close()
	defer beatWith(ctx, func() []any { return []any{out.said()} })()
	begun := time.Now()
	err = do(out)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return kept{out.name, release.Duration(time.Since(begun).Round(time.Millisecond)), out.Tail()}, err
}

// output begins the log of one activity of one run. Whoever starts a workflow
// chooses its ID: a file outside of the log folder is not opened for it.
func (a *Activities) output(ctx context.Context, what string) (*output, error) {
	if a.Logs == "" {
		return &output{}, nil
	}
	w := activity.GetInfo(ctx).WorkflowExecution
	name := filepath.Join("logs", filepath.FromSlash(w.ID), w.RunID, what+".log")
	if err := os.MkdirAll(a.Logs, 0o700); err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	root, err := os.OpenRoot(a.Logs)
	if err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	defer root.Close()
	a.pruneLogs(root)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	file, err := root.Create(name)
	if err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	return &output{name: filepath.ToSlash(name), file: file}, nil
}

// Write implements io.Writer. Several may write at a time.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail = append(o.tail, p...)
	if len(o.tail) > 2*tailBytes {
		o.tail = bytes.Clone(o.tail[len(o.tail)-tailBytes:])
	}
	room := max(0, maxOutput-o.size)
	o.size += int64(len(p))
	if o.file == nil {
		return len(p), nil
	}
	if int64(len(p)) <= room {
		return o.file.Write(p)
	}
	if o.end = append(o.end, p[room:]...); len(o.end) > 2*maxEnd {
		o.end = bytes.Clone(o.end[len(o.end)-maxEnd:])
	}
	n, err := o.file.Write(p[:room])
	if err != nil {
		return n, err
	}
	return len(p), nil
}

// Tail is the end of what was written.
func (o *output) Tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return excerpt(strings.ToValidUTF8(string(o.tail), "�"), tailBytes)
}

// said is how far the output is: what heartbeats tell of it.
func (o *output) said() release.Output {
	o.mu.Lock()
	defer o.mu.Unlock()
	tail := o.tail[max(0, len(o.tail)-tailBytes):]
	return release.Output{Log: o.name, Size: o.size, Tail: strings.ToValidUTF8(string(tail), "�")}
}

// Close ends the file: with the end of an output that is too long for it.
func (o *output) Close() error {
	if o.file == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var err error
	if len(o.end) > 0 {
		o.end = o.end[max(0, len(o.end)-maxEnd):]
		_, err = fmt.Fprintf(o.file, "\n… %d bytes are left out here: more than %d MB are not kept …\n%s", o.size-maxOutput-int64(len(o.end)), maxOutput>>20, o.end)
	}
	return errors.Join(err, o.file.Close())
}

package activities

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/microbima/release/release"
)

// tailBytes is how much of an output goes into a history. The worker's log folder has
// all of it.
const tailBytes = 16 << 10

// An output is written to a file of the worker, and its end is kept in memory.
type output struct {
	name string   // relative to the log folder: a history holds no machine's paths
	file *os.File // nil: there is no log folder

	mu   sync.Mutex
	size int64
	tail []byte
	end  []byte // end of what the file does not have
}

// An output that has more than maxOutput bytes is kept as those, a line that
// says how many are left out, and the last maxEnd.
const (
	maxOutput = 64 << 20
	maxEnd    = 1 << 20
)

// captured is what is kept of an output.
type captured struct {
	log  string // names the file
	took release.Duration
	tail string
}

// capture runs fn, stores its output and reports progress in heartbeats.
func (f logFolder) capture(ctx context.Context, name string, fn func(out *output) error) (captured, error) {
	out, err := f.create(ctx, name)
	if err != nil {
		return captured{}, err
	}
	defer out.Close()
	defer heartbeatWith(ctx, func() []any { return []any{out.progress()} })()
	begun := time.Now()
	err = fn(out)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return captured{out.name, release.Duration(time.Since(begun).Round(time.Millisecond)), out.Tail()}, err
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

// Tail returns the end of what was written.
func (o *output) Tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return lastBytes(strings.ToValidUTF8(string(o.tail), "�"), tailBytes)
}

// progress returns the size and the end of what was written, for heartbeats.
func (o *output) progress() release.Output {
	o.mu.Lock()
	defer o.mu.Unlock()
	tail := o.tail[max(0, len(o.tail)-tailBytes):]
	return release.Output{Log: o.name, Size: o.size, Tail: strings.ToValidUTF8(string(tail), "�")}
}

// Close closes the file. It adds the end of an output that is too long for it.
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

// lastBytes returns the end of s, at most n bytes of it.
func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}

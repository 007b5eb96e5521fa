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

// tailBytes is the size of the end of an output that goes into a history. The log
// folder has the whole output.
const tailBytes = 16 << 10

// An output writes to a file of the worker and keeps its end in memory.
type output struct {
	name string   // relative to the log folder, because histories contain no local paths
	file *os.File // nil without a log folder

	mu   sync.Mutex
	size int64
	tail []byte
	end  []byte // end of the bytes beyond maxOutput
}

// A file contains at most maxOutput bytes, a line with the number of omitted bytes, and
// the last maxEnd bytes.
const (
	maxOutput = 64 << 20
	maxEnd    = 1 << 20
)

// capturedOutput describes a stored output.
type capturedOutput struct {
	log  string // name of the file
	took release.Duration
	tail string
}

// capture runs fn, stores its output and reports progress in heartbeats.
func (f logFolder) capture(ctx context.Context, name string, fn func(out *output) error) (capturedOutput, error) {
	out, err := f.create(ctx, name)
	if err != nil {
		return capturedOutput{}, err
	}
	defer out.Close()
	defer startHeartbeatWith(ctx, func() []any { return []any{out.progress()} })()
	begun := time.Now()
	err = fn(out)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return capturedOutput{out.name, release.Duration(time.Since(begun).Round(time.Millisecond)), out.Tail()}, err
}

// Write implements io.Writer. It is safe for concurrent use.
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

// Tail returns the end of the output.
func (o *output) Tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return lastBytes(strings.ToValidUTF8(string(o.tail), "�"), tailBytes)
}

// progress returns the size and the end of the output, for heartbeats.
func (o *output) progress() release.Output {
	o.mu.Lock()
	defer o.mu.Unlock()
	tail := o.tail[max(0, len(o.tail)-tailBytes):]
	return release.Output{Log: o.name, Size: o.size, Tail: strings.ToValidUTF8(string(tail), "�")}
}

// Close appends the end of a long output to the file and closes it.
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

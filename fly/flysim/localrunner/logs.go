package localrunner

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

const (
	logLines   = 200     // number of last lines kept in memory
	logLine    = 8 << 10 // bytes; longer lines are split
	logFileCap = 1 << 20 // bytes; then the file replaces the previous one with suffix .1
)

// A processLog has the output of a process: its last lines in memory, and more
// of them, together with those of the machine's earlier processes, in a file.
type processLog struct {
	path string

	mu    sync.Mutex
	lines []string
	file  *os.File // nil after a write error: a full disk must not stop a machine
	size  int64
}

func openProcessLog(path string) (*processLog, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &processLog{path: path, file: f, size: info.Size()}, nil
}

// readLines appends every line of r until it ends.
func (b *processLog) readLines(r io.Reader) {
	in := bufio.NewReaderSize(r, logLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			b.appendLine(strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "�"))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (b *processLog) appendLine(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.lines) == logLines {
		b.lines = slices.Delete(b.lines, 0, 1)
	}
	b.lines = append(b.lines, line)
	if b.file == nil {
		return
	}
	if b.size > logFileCap {
		b.rotateFile()
	}
	if b.file == nil {
		return
	}
	n, err := b.file.WriteString(line + "\n")
	b.size += int64(n)
	if err != nil {
		b.closeFile()
	}
}

// rotateFile renames the full file and starts a new one.
func (b *processLog) rotateFile() {
	b.closeFile()
	if os.Rename(b.path, b.path+".1") != nil {
		return
	}
	f, err := os.OpenFile(b.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		b.file, b.size = f, 0
	}
}

func (b *processLog) closeFile() {
	_ = b.file.Close() // lines that could not be written stay in memory
	b.file = nil
}

// tail returns the lines in memory, oldest first.
func (b *processLog) tail() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

func (b *processLog) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		b.closeFile()
	}
}

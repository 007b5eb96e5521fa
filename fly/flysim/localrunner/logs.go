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
func (l *processLog) readLines(r io.Reader) {
	in := bufio.NewReaderSize(r, logLine)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			l.appendLine(strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "�"))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (l *processLog) appendLine(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == logLines {
		l.lines = slices.Delete(l.lines, 0, 1)
	}
	l.lines = append(l.lines, line)
	if l.file == nil {
		return
	}
	if l.size > logFileCap {
		l.rotateFile()
	}
	if l.file == nil {
		return
	}
	n, err := l.file.WriteString(line + "\n")
	l.size += int64(n)
	if err != nil {
		l.closeFile()
	}
}

// rotateFile renames the full file and starts a new one.
func (l *processLog) rotateFile() {
	l.closeFile()
	if os.Rename(l.path, l.path+".1") != nil {
		return
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		l.file, l.size = f, 0
	}
}

func (l *processLog) closeFile() {
	_ = l.file.Close() // lines that could not be written stay in memory
	l.file = nil
}

// tail returns the lines in memory, oldest first.
func (l *processLog) tail() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

func (l *processLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.closeFile()
	}
}

// Package tomldoc reads a TOML document key by key and collects everything
// that is wrong with it, each mistake with its line.
//
// A decoder into structs stops at the first wrong type and says little of what
// would be right. Here the reader of a section asks for each key it knows with
// the type it wants; what nobody asked for is a mistake too. Begin with Parse,
// read through Doc.Root, end with Doc.Close.
package tomldoc

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// A Problem is one thing wrong in one file, in the form that editors and CI
// know how to click on.
type Problem struct {
	File string
	Line int    // 0 when what is meant is not there
	Key  string // dotted, as one would write it; "" for the file itself
	Msg  string // what is wrong, and what would be right
}

func (p *Problem) Error() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d", p.Line)
	}
	if p.Key != "" {
		s += ": " + p.Key
	}
	return s + ": " + p.Msg
}

// Problems is everything that is wrong, one a line.
type Problems []*Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Sort orders by file, then line, then key.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b *Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, strings.Compare(a.Key, b.Key))
	})
}

// A Doc is one file under examination.
type Doc struct {
	file     string
	lines    map[string]int
	root     *Table
	tables   []*Table
	problems Problems
	warnings Problems
}

// maxSize keeps the decoder, which calls itself for each bracket, from running
// out of stack.
const maxSize = 256 << 10

// Parse reads a document. One that is not TOML yields a single Problem, where
// the parser gave up: what follows a broken line can only be guessed.
func Parse(file string, doc []byte) (*Doc, error) {
	if len(doc) > maxSize {
		return nil, Problems{{File: file, Msg: fmt.Sprintf("has %d bytes; a file that people write has less than %d", len(doc), maxSize)}}
	}
	values := map[string]any{}
	if err := toml.Unmarshal(doc, &values); err != nil {
		p := &Problem{File: file, Msg: "not TOML: " + strings.TrimPrefix(err.Error(), "toml: ")}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			p.Line, _ = at.Position()
		} else {
			p.Line = findErrorLine(doc, err)
		}
		return nil, Problems{p}
	}
	d := &Doc{file: file, lines: keyLines(doc)}
	d.root = d.newTable("", values)
	return d, nil
}

// lineOf finds where the decoder gave up when its error doesn't say so, which
// is when a key is defined twice. It reads from the top, so the first lines
// that yield the same error end with the one that is meant.
func findErrorLine(doc []byte, err error) int {
	lines := bytes.SplitAfter(doc, []byte("\n"))
	n := sort.Search(len(lines)-1, func(i int) bool {
		again := toml.Unmarshal(bytes.Join(lines[:i+1], nil), &map[string]any{})
		return again != nil && again.Error() == err.Error()
	})
	return n + 1
}

// Root is the document's top table.
func (d *Doc) Root() *Table { return d.root }

// Line is where key is written, or where the nearest table around it begins; 0
// when there is neither.
func (d *Doc) Line(key string) int {
	for key != "" {
		if line := d.lines[key]; line > 0 {
			return line
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return 0
}

// Errorf records a mistake at key.
func (d *Doc) Errorf(key, format string, args ...any) {
	d.problems = append(d.problems, d.newProblem(key, format, args))
}

// Warnf records what is odd but does no harm.
func (d *Doc) Warnf(key, format string, args ...any) {
	d.warnings = append(d.warnings, d.newProblem(key, format, args))
}

// Close adds every key that was never asked for, and returns all that was
// found, in the order of the file.
func (d *Doc) Close() (problems, warnings Problems) {
	for _, t := range d.tables {
		t.reportUnknown()
	}
	d.problems.Sort()
	d.warnings.Sort()
	return d.problems, d.warnings
}

func (d *Doc) newProblem(key, format string, args []any) *Problem {
	return &Problem{File: d.file, Line: d.Line(key), Key: key, Msg: fmt.Sprintf(format, args...)}
}

func (d *Doc) newTable(path string, values map[string]any) *Table {
	t := &Table{doc: d, path: path, values: values}
	d.tables = append(d.tables, t)
	return t
}

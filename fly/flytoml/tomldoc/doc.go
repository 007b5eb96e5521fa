// Package tomldoc reads a TOML document key by key and collects every mistake
// in it, each with its line.
//
// A decoder into structs stops at the first wrong type, and its message does
// not say what would be right. With this package the reader of a section asks
// for each key that it knows, with its type; keys that were not asked for are
// mistakes as well. Call Parse, read from Doc.Root, and call Doc.Close at the
// end.
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

// A Problem is one mistake in a file. Its text has the file:line form that
// editors and CI link.
type Problem struct {
	File string
	Line int    // 0 if the setting is missing
	Key  string // dotted, as in the file; "" for the file itself
	Msg  string // the mistake, and what would be right
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

// Problems has all mistakes; its text has one per line.
type Problems []*Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Sort sorts by file, then line, then key.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b *Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, strings.Compare(a.Key, b.Key))
	})
}

// A Doc is a document that is being read.
type Doc struct {
	file     string
	lines    map[string]int
	root     *Table
	tables   []*Table
	problems Problems
	warnings Problems
}

// maxSize limits the recursion of the decoder, which calls itself for each
// bracket.
const maxSize = 256 << 10

// Parse parses a document. If it is not TOML, the error has a single Problem,
// because what follows an invalid line can only be guessed.
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

// findErrorLine returns the line of a decoder error without a position, as of a
// key that is defined twice. The shortest prefix of the document with the same
// error ends at that line.
func findErrorLine(doc []byte, err error) int {
	lines := bytes.SplitAfter(doc, []byte("\n"))
	n := sort.Search(len(lines)-1, func(i int) bool {
		again := toml.Unmarshal(bytes.Join(lines[:i+1], nil), &map[string]any{})
		return again != nil && again.Error() == err.Error()
	})
	return n + 1
}

// Root returns the top table of the document.
func (d *Doc) Root() *Table { return d.root }

// Line returns the line of key, else that of the nearest table around it, else
// 0.
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

// Warnf records a warning at key.
func (d *Doc) Warnf(key, format string, args ...any) {
	d.warnings = append(d.warnings, d.newProblem(key, format, args))
}

// Close records a mistake for every key that was not asked for, and returns all
// problems and warnings, sorted by line.
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

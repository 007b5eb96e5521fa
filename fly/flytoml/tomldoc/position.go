package tomldoc

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// positions maps every key of a document, dotted, to its line. Elements of
// arrays are numbered from 0: services[0].ports[1].port.
func positions(doc []byte) map[string]int {
	w := &walker{at: map[string]int{}, count: map[string]int{}}
	for i, c := range doc {
		if c == '\n' {
			w.breaks = append(w.breaks, i)
		}
	}
	var p unstable.Parser
	p.Reset(doc)
	table := ""
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = w.header(e)
		case unstable.KeyValue:
			w.pair(table, e)
		}
	}
	return w.at
}

type walker struct {
	at     map[string]int
	count  map[string]int // elements of each array of tables so far
	breaks []int          // offsets of the line breaks
}

func (w *walker) line(n *unstable.Node) int {
	return sort.SearchInts(w.breaks, int(n.Raw.Offset)) + 1
}

func (w *walker) mark(path string, line int) {
	if w.at[path] == 0 {
		w.at[path] = line
	}
}

// header enters [a.b] or [[a.b]]. A name on the way that is an array of tables
// means its last element.
func (w *walker) header(e *unstable.Node) string {
	path := ""
	for it := e.Key(); it.Next(); {
		path = join(path, string(it.Node().Data))
		w.mark(path, w.line(it.Node()))
		switch n := w.count[path]; {
		case it.IsLast() && e.Kind == unstable.ArrayTable:
			w.count[path]++
			path = fmt.Sprintf("%s[%d]", path, n)
		case n > 0:
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
		w.mark(path, w.line(it.Node()))
	}
	return path
}

func (w *walker) pair(path string, e *unstable.Node) {
	line := 0
	for it := e.Key(); it.Next(); {
		path = join(path, string(it.Node().Data))
		line = w.line(it.Node())
		w.mark(path, line)
	}
	w.value(path, e.Value(), line)
}

func (w *walker) value(path string, v *unstable.Node, line int) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			w.pair(path, it.Node())
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); i++ {
			n := it.Node()
			if n.Raw.Length > 0 {
				line = w.line(n)
			}
			element := fmt.Sprintf("%s[%d]", path, i)
			w.mark(element, line)
			w.value(element, n, line)
		}
	}
}

// join appends a key to a dotted path, quoted if TOML would want that.
func join(path, key string) string {
	if key == "" || bytes.ContainsFunc([]byte(key), notBare) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func notBare(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", r)
}

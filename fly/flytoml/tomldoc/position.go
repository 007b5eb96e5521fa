package tomldoc

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// keyLines returns the line of every key of a document, dotted. Elements of
// arrays are numbered from 0: services[0].ports[1].port.
func keyLines(doc []byte) map[string]int {
	w := &lineWalker{lines: map[string]int{}, count: map[string]int{}}
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
			table = w.enterHeader(e)
		case unstable.KeyValue:
			w.addPair(table, e)
		}
	}
	return w.lines
}

type lineWalker struct {
	lines  map[string]int
	count  map[string]int // elements so far of each array of tables
	breaks []int          // offsets of line breaks
}

func (w *lineWalker) lineAt(n *unstable.Node) int {
	return sort.SearchInts(w.breaks, int(n.Raw.Offset)) + 1
}

func (w *lineWalker) setLine(path string, line int) {
	if w.lines[path] == 0 {
		w.lines[path] = line
	}
}

// enterHeader enters [a.b] or [[a.b]] and returns its path. An array of tables
// on the way stands for its last element.
func (w *lineWalker) enterHeader(e *unstable.Node) string {
	path := ""
	for it := e.Key(); it.Next(); {
		path = joinKey(path, string(it.Node().Data))
		w.setLine(path, w.lineAt(it.Node()))
		switch n := w.count[path]; {
		case it.IsLast() && e.Kind == unstable.ArrayTable:
			w.count[path]++
			path = fmt.Sprintf("%s[%d]", path, n)
		case n > 0:
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
		w.setLine(path, w.lineAt(it.Node()))
	}
	return path
}

func (w *lineWalker) addPair(path string, e *unstable.Node) {
	line := 0
	for it := e.Key(); it.Next(); {
		path = joinKey(path, string(it.Node().Data))
		line = w.lineAt(it.Node())
		w.setLine(path, line)
	}
	w.addValue(path, e.Value(), line)
}

func (w *lineWalker) addValue(path string, v *unstable.Node, line int) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			w.addPair(path, it.Node())
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); i++ {
			n := it.Node()
			if n.Raw.Length > 0 {
				line = w.lineAt(n)
			}
			element := fmt.Sprintf("%s[%d]", path, i)
			w.setLine(element, line)
			w.addValue(element, n, line)
		}
	}
}

// joinKey appends a key to a dotted path, quoted if TOML requires it.
func joinKey(path, key string) string {
	if key == "" || bytes.ContainsFunc([]byte(key), needsQuotes) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func needsQuotes(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", r)
}

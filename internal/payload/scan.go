package payload

import (
	"bytes"
	"errors"
)

// maxDepth limits how deep a document may be nested: Go's own decoder stops at
// 10,000.
const maxDepth = 10_000

var errNotJSON = errors.New("not a JSON document")

// A scanner finds the large values of a JSON document. It checks only what it
// needs: strings end, brackets match.
type scanner struct {
	doc   []byte
	at    int
	known map[string]node // kind and content of the strings that were met, by literal
}

// stringNode returns the node of the string doc[from:to].
func (s *scanner) stringNode(from, to int) node {
	n, ok := s.known[string(s.doc[from:to])]
	if !ok {
		n.kind, n.content = stringContent(s.doc[from:to])
		if s.known == nil {
			s.known = map[string]node{}
		}
		s.known[string(s.doc[from:to])] = n
	}
	n.from, n.to = from, to
	return n
}

// scan returns the nodes of the whole document.
func (s *scanner) scan() ([]node, error) {
	var open [][]node // nodes found inside each open object or array
	var from []int    // where each of them began
	nodes := []node{}
	add := func(n node) {
		if n.to-n.from >= shareFrom {
			nodes = append(nodes, n)
		} else {
			nodes = append(nodes, n.inside...)
		}
	}
	for s.at < len(s.doc) {
		switch c := s.doc[s.at]; c {
		case '"':
			end := endOfString(s.doc, s.at)
			if end > len(s.doc) {
				return nil, errNotJSON
			}
			if end-s.at >= shareFrom {
				add(s.stringNode(s.at, end))
			}
			s.at = end
			continue
		case '{', '[':
			if len(open) == maxDepth {
				return nil, errNotJSON
			}
			open, from = append(open, nodes), append(from, s.at)
			nodes = nil
		case '}', ']':
			last := len(open) - 1
			if last < 0 {
				return nil, errNotJSON
			}
			n := node{from: from[last], to: s.at + 1, kind: jsonKind, inside: nodes}
			n.content = s.doc[n.from:n.to]
			nodes, open, from = open[last], open[:last], from[:last]
			add(n)
		case reference:
			return nil, errNotJSON
		}
		s.at++
	}
	if len(open) > 0 {
		return nil, errNotJSON
	}
	return nodes, nil
}

// endOfString returns the index after the string that begins at text[at], or
// one beyond the end of text if it does not end.
func endOfString(text []byte, at int) int {
	for i := at + 1; ; {
		next := bytes.IndexAny(text[i:], `"\`)
		if next < 0 {
			return len(text) + 1
		}
		i += next
		if text[i] == '"' {
			return i + 1
		}
		if i += 2; i > len(text) {
			return len(text) + 1
		}
	}
}

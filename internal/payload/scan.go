package payload

import (
	"bytes"
	"errors"
)

// maxDepth limits the nesting of a document, as Go's own decoder does.
const maxDepth = 10_000

var errNotJSON = errors.New("not a JSON document")

// A scanner finds the large values of a JSON document. It checks only that strings end
// and brackets match.
type scanner struct {
	doc   []byte
	at    int
	known map[string]jsonValue // kind and content of scanned strings, by literal
}

// stringValue returns the value of the string doc[from:to].
func (s *scanner) stringValue(from, to int) jsonValue {
	v, ok := s.known[string(s.doc[from:to])]
	if !ok {
		v.kind, v.content = decodeString(s.doc[from:to])
		if s.known == nil {
			s.known = map[string]jsonValue{}
		}
		s.known[string(s.doc[from:to])] = v
	}
	v.from, v.to = from, to
	return v
}

// A frame is an open object or array.
type frame struct {
	start  int         // index of its bracket
	before []jsonValue // values found before it
}

// scan returns the values of the document that have shareFrom bytes or more.
func (s *scanner) scan() ([]jsonValue, error) {
	var open []frame
	values := []jsonValue{}
	for s.at < len(s.doc) {
		switch c := s.doc[s.at]; c {
		case '"':
			end := stringEnd(s.doc, s.at)
			if end > len(s.doc) {
				return nil, errNotJSON
			}
			if end-s.at >= shareFrom {
				values = append(values, s.stringValue(s.at, end))
			}
			s.at = end
			continue
		case '{', '[':
			if len(open) == maxDepth {
				return nil, errNotJSON
			}
			open = append(open, frame{start: s.at, before: values})
			values = nil
		case '}', ']':
			last := len(open) - 1
			if last < 0 {
				return nil, errNotJSON
			}
			values = s.closeFrame(open[last], values)
			open = open[:last]
		case reference:
			return nil, errNotJSON
		}
		s.at++
	}
	if len(open) > 0 {
		return nil, errNotJSON
	}
	return values, nil
}

// closeFrame returns the values up to the closing bracket of f: f itself if it is large,
// else the values nested in it.
func (s *scanner) closeFrame(f frame, nested []jsonValue) []jsonValue {
	end := s.at + 1
	if end-f.start < shareFrom {
		return append(f.before, nested...)
	}
	return append(f.before, jsonValue{from: f.start, to: end, kind: jsonKind, content: s.doc[f.start:end], nested: nested})
}

// stringEnd returns the index after the string that begins at text[at], or len(text)+1
// if the string does not end.
func stringEnd(text []byte, at int) int {
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

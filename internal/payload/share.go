package payload

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

const (
	// shareFrom is the length, in bytes, from which a JSON value that occurs
	// twice is stored once. A reference is 66 bytes long.
	shareFrom = 512
	// maxExpanded limits what a stored value expands to. No value of this
	// program comes near it.
	maxExpanded = 512 << 20
	// reference starts a reference: the kind of the value and its hash follow.
	// No JSON document has this byte outside a string.
	reference       = '@'
	referenceLength = 2 + 2*sha256.Size
	// jsonKind is the kind of a value that is stored as JSON. The kinds '0' to
	// '3' are strings, stored as their bytes: see stringContent.
	jsonKind = 'j'
)

// A node is a JSON value of shareFrom bytes or more, and those inside it.
type node struct {
	from, to int
	kind     byte   // jsonKind, or that of a string
	content  []byte // what equal values have in common
	inside   []node
}

// key tells contents apart: the same bytes are something else as a string.
func (n node) key() string {
	if n.kind == jsonKind {
		return "j" + string(n.content)
	}
	return "s" + string(n.content)
}

// share returns doc, a JSON document, in the stored form: the values that occur
// more than once and strings in base64, which are larger than their bytes, each as a line "kind hash length" and its bytes, then an empty
// line, then doc with references in their place. A value may refer to those
// before it.
func share(doc []byte) ([]byte, error) {
	s := scanner{doc: doc}
	nodes, err := s.scan()
	if err != nil {
		return nil, err
	}
	w := sharer{doc: doc, count: map[string]int{}, stored: map[string]string{}}
	w.countAll(nodes)
	body := w.text(0, len(doc), nodes)
	w.table.WriteByte('\n')
	return append(w.table.Bytes(), body...), nil
}

// A sharer writes the stored form of one document.
type sharer struct {
	doc    []byte
	count  map[string]int    // occurrences, by key
	stored map[string]string // hashes of the values in table, by key
	table  bytes.Buffer
}

// countAll counts how often each value occurs. What is inside a value counts at
// the first occurrence only: the others will be references.
func (w *sharer) countAll(nodes []node) {
	for _, n := range nodes {
		key := n.key()
		w.count[key]++
		if w.count[key] == 1 {
			w.countAll(n.inside)
		}
	}
}

// text returns doc[from:to] with references in place of the nodes that occur
// more than once, and adds those to the table.
func (w *sharer) text(from, to int, nodes []node) []byte {
	var out []byte
	for _, n := range nodes {
		out = append(out, w.doc[from:n.from]...)
		from = n.to
		key := n.key()
		if w.count[key] < 2 && (n.kind == jsonKind || n.kind == '0') {
			out = append(out, w.text(n.from, n.to, n.inside)...)
			continue
		}
		hash, ok := w.stored[key]
		if !ok {
			hash = hashOf(n.content)
			w.stored[key] = hash
			value := n.content
			if n.kind == jsonKind {
				value = w.text(n.from, n.to, n.inside)
			}
			fmt.Fprintf(&w.table, "%c %s %d\n%s", key[0], hash, len(value), value)
		}
		out = append(append(out, reference, n.kind), hash...)
	}
	return append(out, w.doc[from:to]...)
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

var errStored = errors.New("a stored value is damaged")

// A table is the values that references name, by "j" or "s" and their hash.
type table map[string][]byte

// expand returns the document that share was given. It fails where a reference
// names no value, or a value is not what its hash says.
func expand(stored []byte) ([]byte, error) {
	values := table{}
	for {
		line, rest, ok := bytes.Cut(stored, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("%w: it ends in its table", errStored)
		}
		if len(line) == 0 {
			return values.replaceReferences(rest)
		}
		fields := bytes.Split(line, []byte(" "))
		if len(fields) != 3 {
			return nil, fmt.Errorf("%w: its table has the line %.80q", errStored, line)
		}
		n, err := strconv.Atoi(string(fields[2]))
		if err != nil || n < 0 || n > len(rest) {
			return nil, fmt.Errorf("%w: its table has the length %.80q", errStored, fields[2])
		}
		value := rest[:n]
		if string(fields[0]) == string(jsonKind) {
			if value, err = values.replaceReferences(value); err != nil {
				return nil, err
			}
		}
		if hashOf(value) != string(fields[1]) {
			return nil, fmt.Errorf("%w: a value does not have the hash %.80q", errStored, fields[1])
		}
		values[string(fields[0])+string(fields[1])], stored = value, rest[n:]
	}
}

// replaceReferences returns text with each reference replaced by its value.
func (t table) replaceReferences(text []byte) ([]byte, error) {
	out := make([]byte, 0, len(text))
	for {
		i := nextReference(text)
		if i < 0 {
			return append(out, text...), nil
		}
		if i+referenceLength > len(text) {
			return nil, fmt.Errorf("%w: it ends in a reference", errStored)
		}
		kind, hash := text[i+1], string(text[i+2:i+referenceLength])
		value, ok := t[string(kind)+hash]
		if kind != jsonKind {
			if value, ok = t["s"+hash]; ok {
				value, ok = stringOf(kind, value)
			}
		}
		if !ok {
			return nil, fmt.Errorf("%w: it refers to %.80q, which it does not have", errStored, text[i+1:i+referenceLength])
		}
		if len(out)+i+len(value) > maxExpanded {
			return nil, fmt.Errorf("%w: it expands to more than %d MB", errStored, maxExpanded>>20)
		}
		out = append(append(out, text[:i]...), value...)
		text = text[i+referenceLength:]
	}
}

// nextReference returns the index of the first reference in text, or -1.
func nextReference(text []byte) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case reference:
			return i
		case '"':
			i = endOfString(text, i) - 1
		}
	}
	return -1
}

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
	// twice is stored once. A reference is 65 bytes long.
	shareFrom = 512
	// maxExpanded limits what a stored value expands to. No value of this
	// program comes near it.
	maxExpanded = 512 << 20
	// reference starts a reference. No JSON document has this byte outside a
	// string.
	reference = '@'
)

// A node is a JSON value of shareFrom bytes or more, and those inside it.
type node struct {
	from, to int
	inside   []node
}

// share returns doc, a JSON document, in the stored form: the values that occur
// more than once, each as a line "hash length" and its bytes, then an empty
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
	count  map[string]int    // occurrences, by content
	stored map[string]string // hashes of the values in table, by content
	table  bytes.Buffer
}

// countAll counts how often each value occurs. What is inside a value counts at
// the first occurrence only: the others will be references.
func (w *sharer) countAll(nodes []node) {
	for _, n := range nodes {
		content := w.doc[n.from:n.to]
		w.count[string(content)]++
		if w.count[string(content)] == 1 {
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
		content := w.doc[n.from:n.to]
		if w.count[string(content)] < 2 {
			out = append(out, w.text(n.from, n.to, n.inside)...)
			continue
		}
		hash, ok := w.stored[string(content)]
		if !ok {
			hash = hashOf(content)
			w.stored[string(content)] = hash
			value := w.text(n.from, n.to, n.inside)
			fmt.Fprintf(&w.table, "%s %d\n%s", hash, len(value), value)
		}
		out = append(append(out, reference), hash...)
	}
	return append(out, w.doc[from:to]...)
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

var errStored = errors.New("a stored value is damaged")

// expand returns the document that share was given. It fails where a reference
// names no value, or a value is not what its hash says.
func expand(stored []byte) ([]byte, error) {
	table := map[string][]byte{}
	for {
		line, rest, ok := bytes.Cut(stored, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("%w: it ends in its table", errStored)
		}
		if len(line) == 0 {
			return replaceReferences(rest, table)
		}
		hash, length, _ := bytes.Cut(line, []byte(" "))
		n, err := strconv.Atoi(string(length))
		if err != nil || n < 0 || n > len(rest) {
			return nil, fmt.Errorf("%w: its table has no valid length of %.64q", errStored, hash)
		}
		value, err := replaceReferences(rest[:n], table)
		if err != nil {
			return nil, err
		}
		if hashOf(value) != string(hash) {
			return nil, fmt.Errorf("%w: a value does not have the hash %.64q", errStored, hash)
		}
		table[string(hash)], stored = value, rest[n:]
	}
}

// replaceReferences returns text with each reference replaced by its value.
func replaceReferences(text []byte, table map[string][]byte) ([]byte, error) {
	out := make([]byte, 0, len(text))
	for {
		i := nextReference(text)
		if i < 0 {
			return append(out, text...), nil
		}
		end := i + 1 + 2*sha256.Size
		if end > len(text) {
			return nil, fmt.Errorf("%w: it ends in a reference", errStored)
		}
		value, ok := table[string(text[i+1:end])]
		if !ok {
			return nil, fmt.Errorf("%w: it refers to %.64q, which it does not have", errStored, text[i+1:end])
		}
		if len(out)+i+len(value) > maxExpanded {
			return nil, fmt.Errorf("%w: it expands to more than %d MB", errStored, maxExpanded>>20)
		}
		out = append(append(out, text[:i]...), value...)
		text = text[end:]
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

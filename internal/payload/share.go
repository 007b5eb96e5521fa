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
	// maxExpanded limits the size of an expanded value. Values of this program are far
	// smaller.
	maxExpanded = 512 << 20
	// reference is the first byte of a reference, before the kind and the hash of a
	// value. JSON has this byte only in strings.
	reference       = '@'
	referenceLength = 2 + 2*sha256.Size
	// jsonKind is the kind of a value that is stored as JSON. The kinds '0' to
	// '3' are strings, stored as their bytes: see stringContent.
	jsonKind = 'j'
)

// A jsonValue is a JSON value of shareFrom bytes or more, with the nested ones.
type jsonValue struct {
	from, to int
	kind     byte   // jsonKind, or the kind of a string
	content  []byte // equal for equal values
	nested   []jsonValue
}

// key returns the content with a prefix that distinguishes strings from other values.
func (v jsonValue) key() string {
	if v.kind == jsonKind {
		return "j" + string(v.content)
	}
	return "s" + string(v.content)
}

// shareValues returns the stored form of doc, a JSON document: a table, an empty line,
// and doc with references to the table. The table has the values that occur more than
// once, and strings in base64, which are longer than their bytes. Each is a line "kind
// hash length" and the value, which may refer to values before it.
func shareValues(doc []byte) ([]byte, error) {
	s := scanner{doc: doc}
	values, err := s.scan()
	if err != nil {
		return nil, err
	}
	w := sharer{doc: doc, count: map[string]int{}, stored: map[string]string{}}
	w.countAll(values)
	body := w.replaceShared(0, len(doc), values)
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

// countAll counts the occurrences of each value. Nested values count only at the first
// occurrence of the outer one: the others become references.
func (w *sharer) countAll(values []jsonValue) {
	for _, v := range values {
		key := v.key()
		w.count[key]++
		if w.count[key] == 1 {
			w.countAll(v.nested)
		}
	}
}

// replaceShared returns doc[from:to] with references to the values that are stored in
// the table, and adds those values to it.
func (w *sharer) replaceShared(from, to int, values []jsonValue) []byte {
	var out []byte
	for _, v := range values {
		out = append(out, w.doc[from:v.from]...)
		from = v.to
		key := v.key()
		if w.count[key] < 2 && (v.kind == jsonKind || v.kind == '0') {
			out = append(out, w.replaceShared(v.from, v.to, v.nested)...)
			continue
		}
		hash, ok := w.stored[key]
		if !ok {
			hash = contentHash(v.content)
			w.stored[key] = hash
			stored := v.content
			if v.kind == jsonKind {
				stored = w.replaceShared(v.from, v.to, v.nested)
			}
			fmt.Fprintf(&w.table, "%c %s %d\n%s", key[0], hash, len(stored), stored)
		}
		out = append(append(out, reference, v.kind), hash...)
	}
	return append(out, w.doc[from:to]...)
}

func contentHash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

var errDamaged = errors.New("a stored value is damaged")

// A table holds the values of references, by "j" or "s" and the hash.
type table map[string][]byte

// expandValues returns the document of a stored form. It fails if a reference has no
// value, or if the hash of a value is wrong.
func expandValues(stored []byte) ([]byte, error) {
	values := table{}
	for {
		line, rest, ok := bytes.Cut(stored, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("%w: it ends in its table", errDamaged)
		}
		if len(line) == 0 {
			return values.replaceReferences(rest)
		}
		fields := bytes.Split(line, []byte(" "))
		if len(fields) != 3 {
			return nil, fmt.Errorf("%w: its table has the line %.80q", errDamaged, line)
		}
		n, err := strconv.Atoi(string(fields[2]))
		if err != nil || n < 0 || n > len(rest) {
			return nil, fmt.Errorf("%w: its table has the length %.80q", errDamaged, fields[2])
		}
		value := rest[:n]
		if string(fields[0]) == string(jsonKind) {
			if value, err = values.replaceReferences(value); err != nil {
				return nil, err
			}
		}
		if contentHash(value) != string(fields[1]) {
			return nil, fmt.Errorf("%w: a value does not have the hash %.80q", errDamaged, fields[1])
		}
		values[string(fields[0])+string(fields[1])] = value
		stored = rest[n:]
	}
}

// replaceReferences returns text with each reference replaced by its value.
func (t table) replaceReferences(text []byte) ([]byte, error) {
	out := make([]byte, 0, len(text))
	for {
		i := findReference(text)
		if i < 0 {
			return append(out, text...), nil
		}
		if i+referenceLength > len(text) {
			return nil, fmt.Errorf("%w: it ends in a reference", errDamaged)
		}
		kind, hash := text[i+1], string(text[i+2:i+referenceLength])
		value, ok := t[string(kind)+hash]
		if kind != jsonKind {
			if value, ok = t["s"+hash]; ok {
				value, ok = encodeString(kind, value)
			}
		}
		if !ok {
			return nil, fmt.Errorf("%w: it has no value for the reference %.80q", errDamaged, text[i+1:i+referenceLength])
		}
		if len(out)+i+len(value) > maxExpanded {
			return nil, fmt.Errorf("%w: it expands to more than %d MB", errDamaged, maxExpanded>>20)
		}
		out = append(append(out, text[:i]...), value...)
		text = text[i+referenceLength:]
	}
}

// findReference returns the index of the first reference in text, or -1.
func findReference(text []byte) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case reference:
			return i
		case '"':
			i = stringEnd(text, i) - 1
		}
	}
	return -1
}

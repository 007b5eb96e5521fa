// Package rawjson encodes JSON without HTML escapes: <, > and & stay as they are. It
// decodes JSON with numbers as they were written.
package rawjson

import (
	"bytes"
	"encoding/json"
)

// Marshal returns v as JSON without HTML escapes and without a newline at the end.
func Marshal(v any) ([]byte, error) { return MarshalIndent(v, "") }

// MarshalIndent is Marshal with each element on its own line, indented by indent. An
// empty indent puts all on one line.
func MarshalIndent(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// MustMarshal is Marshal for values that can always be encoded. It panics if v can't be.
func MustMarshal(v any) []byte {
	doc, err := Marshal(v)
	if err != nil {
		panic(err)
	}
	return doc
}

// Decode returns the first JSON value in doc: objects as map[string]any, numbers as
// json.Number.
func Decode(doc []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

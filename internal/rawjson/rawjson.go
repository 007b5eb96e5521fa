// Package rawjson encodes JSON without HTML escapes: <, > and & stay as they are.
package rawjson

import (
	"bytes"
	"encoding/json"
)

// Marshal returns v as JSON without HTML escapes and without a newline at the end.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
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

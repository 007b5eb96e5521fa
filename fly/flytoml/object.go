package flytoml

import (
	"bytes"
	"encoding/json"

	"github.com/microbima/release/internal/rawjson"
)

// An object is a JSON object that keeps numbers as they were written.
type object = map[string]any

func decodeObject(doc []byte) (object, error) {
	var o object
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := d.Decode(&o); err != nil {
		return nil, err
	}
	if o == nil {
		o = object{}
	}
	return o, nil
}

func toObject(v any) (object, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return decodeObject(doc)
}

// equalJSON compares decoded objects, which must contain nothing but JSON
// values.
func equalJSON(a, b object) bool {
	x, errX := rawjson.Marshal(a)
	y, errY := rawjson.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func cloneObject(o object) object { return cloneValue(o).(object) }

func cloneValue(v any) any {
	switch v := v.(type) {
	case object:
		out := make(object, len(v))
		for key, value := range v {
			out[key] = cloneValue(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = cloneValue(value)
		}
		return out
	}
	return v
}

// replaceKey sets dst's key to the value in src, or deletes it.
func replaceKey(dst, src object, key string) {
	if v, ok := src[key]; ok {
		dst[key] = v
	} else {
		delete(dst, key)
	}
}

// childObject returns the object at key, and creates it if necessary.
func childObject(o object, key string) object {
	c, ok := o[key].(object)
	if !ok {
		c = object{}
		o[key] = c
	}
	return c
}

// mergeObject merges src into dst: objects key by key, other values whole.
func mergeObject(dst, src object) {
	for key, v := range src {
		if s, ok := v.(object); ok {
			if d, ok := dst[key].(object); ok {
				mergeObject(d, s)
				continue
			}
		}
		dst[key] = cloneValue(v)
	}
}

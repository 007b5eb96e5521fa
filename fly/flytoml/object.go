package flytoml

import (
	"bytes"
	"encoding/json"
)

// An object is a JSON object whose numbers are as they were written.
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

// encode writes the canonical form: keys sorted, no white space.
func encodeCanonical(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func toObject(v any) (object, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return decodeObject(doc)
}

// same compares what was decoded. Neither may hold anything but JSON.
func equalJSON(a, b object) bool {
	x, errX := encodeCanonical(a)
	y, errY := encodeCanonical(b)
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

// replace makes dst's key what src has, or absent.
func replaceKey(dst, src object, key string) {
	if v, ok := src[key]; ok {
		dst[key] = v
	} else {
		delete(dst, key)
	}
}

// child is the object at key, made if there is none.
func childObject(o object, key string) object {
	c, ok := o[key].(object)
	if !ok {
		c = object{}
		o[key] = c
	}
	return c
}

// merge lays src over dst: objects key by key, anything else whole.
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

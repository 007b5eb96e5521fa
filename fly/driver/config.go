package driver

import (
	"encoding/json"
	"maps"
)

// addMetadata returns config with more metadata. All else stays as it is written.
func addMetadata(config json.RawMessage, metadata map[string]string) json.RawMessage {
	return editObject(config, "metadata", func(all map[string]json.RawMessage) {
		for key, value := range metadata {
			all[key] = encode(value)
		}
	})
}

// setStandby returns config for a machine that starts when the host of primary fails.
func setStandby(config json.RawMessage, primary string) json.RawMessage {
	config = setEnv(config, "FLY_STANDBY_FOR", primary)
	return editObject(config, "", func(top map[string]json.RawMessage) { top["standbys"] = encode([]string{primary}) })
}

// setEnv returns config with one environment variable set.
func setEnv(config json.RawMessage, name, value string) json.RawMessage {
	return editObject(config, "env", func(env map[string]json.RawMessage) { env[name] = encode(value) })
}

// editObject returns doc with one of its objects edited; "" is doc itself. A doc that
// is no object is returned as it is.
func editObject(doc json.RawMessage, key string, edit func(map[string]json.RawMessage)) json.RawMessage {
	top := map[string]json.RawMessage{}
	if json.Unmarshal(doc, &top) != nil {
		return doc
	}
	top = maps.Clone(top)
	if key == "" {
		edit(top)
		return encode(top)
	}
	inner := map[string]json.RawMessage{}
	if old, ok := top[key]; ok && json.Unmarshal(old, &inner) != nil {
		return doc
	}
	if inner == nil {
		inner = map[string]json.RawMessage{}
	}
	edit(inner)
	top[key] = encode(inner)
	return encode(top)
}

// encode returns v as JSON: strings, and raw messages that were decoded.
func encode(v any) json.RawMessage {
	doc, err := json.Marshal(v)
	if err != nil {
		panic(err) // cannot happen for those
	}
	return doc
}

package driver

import (
	"encoding/json"
	"maps"
)

// addMetadata returns config with additional metadata. The rest of config is unchanged.
func addMetadata(config json.RawMessage, metadata map[string]string) json.RawMessage {
	return editObject(config, "metadata", func(all map[string]json.RawMessage) {
		for key, value := range metadata {
			all[key] = encodeJSON(value)
		}
	})
}

// setStandby returns config of a standby for the machine primary.
func setStandby(config json.RawMessage, primary string) json.RawMessage {
	config = setEnv(config, "FLY_STANDBY_FOR", primary)
	return editObject(config, "", func(top map[string]json.RawMessage) { top["standbys"] = encodeJSON([]string{primary}) })
}

// setEnv returns config with one environment variable set.
func setEnv(config json.RawMessage, name, value string) json.RawMessage {
	return editObject(config, "env", func(env map[string]json.RawMessage) { env[name] = encodeJSON(value) })
}

// editObject returns doc after edit has changed the object under key, or doc itself if
// key is "". It returns doc unchanged if that is not an object.
func editObject(doc json.RawMessage, key string, edit func(map[string]json.RawMessage)) json.RawMessage {
	top := map[string]json.RawMessage{}
	if json.Unmarshal(doc, &top) != nil {
		return doc
	}
	top = maps.Clone(top)
	if key == "" {
		edit(top)
		return encodeJSON(top)
	}
	inner := map[string]json.RawMessage{}
	if old, ok := top[key]; ok && json.Unmarshal(old, &inner) != nil {
		return doc
	}
	if inner == nil {
		inner = map[string]json.RawMessage{}
	}
	edit(inner)
	top[key] = encodeJSON(inner)
	return encodeJSON(top)
}

// encodeJSON returns v as JSON. v is a string or was decoded from JSON.
func encodeJSON(v any) json.RawMessage {
	doc, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and decoded values can be encoded
	}
	return doc
}

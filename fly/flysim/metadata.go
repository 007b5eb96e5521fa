package flysim

import (
	"encoding/json"
	"net/http"

	"github.com/microbima/release/internal/rawjson"
)

func (s *Sim) getMetadata(c *call) (any, error) {
	out := c.machine.config().Metadata
	if out == nil {
		out = map[string]string{}
	}
	return out, nil
}

// setMetadata changes the config without an update, as nothing else does.
func (s *Sim) setMetadata(c *call) (any, error) {
	var in struct {
		Value string `json:"value"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	var doc, metadata map[string]json.RawMessage
	_ = json.Unmarshal([]byte(c.machine.Config), &doc)
	_ = json.Unmarshal(doc["metadata"], &metadata)
	if metadata == nil {
		metadata = map[string]json.RawMessage{}
	}
	key := c.r.PathValue("key")
	if c.r.Method == http.MethodDelete {
		delete(metadata, key)
	} else {
		metadata[key] = rawjson.MustMarshal(in.Value)
	}
	doc["metadata"] = rawjson.MustMarshal(metadata)
	c.machine.Config = string(rawjson.MustMarshal(doc))
	s.markChanged(c.machine)
	return nil, nil
}

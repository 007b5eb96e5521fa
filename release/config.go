package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// stampKeys are the metadata keys that identify the release of a machine config.
// IsSameConfig ignores them.
var stampKeys = [...]string{
	MetaRelease, MetaRevision, MetaMachine,
	"fly_release_id", "fly_release_version", "fly_flyctl_version",
}

// Canonical returns doc in one form: keys sorted, no white space, numbers as they
// were written. It keeps unknown fields. It returns a document that is not JSON
// unchanged.
func Canonical(doc json.RawMessage) json.RawMessage {
	v, err := decodeJSON(doc)
	if err != nil {
		return doc
	}
	return encodeJSON(v)
}

// IsSameConfig reports whether two machine configs request the same machine. It ignores
// the metadata that identify the release, the IDs of volumes and of the machine that a
// standby replaces (no plan contains those IDs), the size and encryption that Fly
// reports of a volume, the repository of an image that has a digest, and empty
// objects and lists, which Fly adds and removes.
func IsSameConfig(a, b json.RawMessage) bool {
	return bytes.Equal(normalizeConfig(a), normalizeConfig(b))
}

// hashJSON returns the SHA-256 of the canonical JSON of v as 64 hex digits. It panics
// if v does not marshal, which cannot happen for types of this package.
func hashJSON(v any) string {
	doc, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types of this package are hashed
	}
	sum := sha256.Sum256(Canonical(doc))
	return hex.EncodeToString(sum[:])
}

// hashConfig returns hashJSON of a document from a cache.
func hashConfig(doc json.RawMessage) string {
	return configHashes.get(doc, func(doc json.RawMessage) string { return hashJSON(doc) })
}

var (
	normalizedConfigs docCache[[]byte]
	configHashes      docCache[string]
	checkCounts       docCache[int]
	configMetadata    docCache[map[string]string]
)

// ParseMetadata returns the metadata of a machine config, or nil if it has none. The map
// is shared: callers must not change it.
func ParseMetadata(config json.RawMessage) map[string]string {
	return configMetadata.get(config, parseMetadata)
}

func parseMetadata(config json.RawMessage) map[string]string {
	var c struct{ Metadata map[string]string }
	if json.Unmarshal(config, &c) != nil {
		return nil
	}
	return c.Metadata
}

// normalizeConfig returns the bytes that IsSameConfig compares, from a cache. Callers
// must not change them.
func normalizeConfig(doc json.RawMessage) []byte { return normalizedConfigs.get(doc, removeIgnored) }

func removeIgnored(doc json.RawMessage) []byte {
	v, err := decodeJSON(doc)
	if err != nil {
		return doc
	}
	if config, ok := v.(map[string]any); ok {
		if metadata, ok := config["metadata"].(map[string]any); ok {
			for _, key := range stampKeys {
				delete(metadata, key)
			}
		}
		if env, ok := config["env"].(map[string]any); ok {
			delete(env, "FLY_STANDBY_FOR")
		}
		delete(config, "standbys")
		if image, ok := config["image"].(string); ok && Image(image).Digest() != "" {
			config["image"] = Image(image).Digest()
		}
		mounts, _ := config["mounts"].([]any)
		for _, m := range mounts {
			if mount, ok := m.(map[string]any); ok {
				delete(mount, "volume")
				delete(mount, "size_gb")
				delete(mount, "encrypted")
			}
		}
	}
	return encodeJSON(removeEmpty(v))
}

// removeEmpty returns v without empty objects and lists, at any depth, or nil if
// nothing remains.
func removeEmpty(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if value = removeEmpty(value); value == nil {
				delete(v, key)
			} else {
				v[key] = value
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i := range v {
			v[i] = removeEmpty(v[i])
		}
		if len(v) == 0 {
			return nil
		}
	}
	return v
}

func decodeJSON(doc []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

func encodeJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // it was decoded from JSON
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// CountChecks returns the number of health checks in a config. The result of a machine
// that reports fewer checks is not known yet.
func CountChecks(config json.RawMessage) int { return checkCounts.get(config, countChecks) }

func countChecks(config json.RawMessage) int {
	var c struct {
		Checks   map[string]json.RawMessage
		Services []struct{ Checks []json.RawMessage }
	}
	if json.Unmarshal(config, &c) != nil {
		return 0
	}
	n := len(c.Checks)
	for _, s := range c.Services {
		n += len(s.Checks)
	}
	return n
}

// IsSameRelease reports whether two configs belong to the same release: whether the
// metadata that IsSameConfig ignores are equal.
func IsSameRelease(a, b json.RawMessage) bool {
	of := func(doc json.RawMessage) (stamp [len(stampKeys)]string) {
		metadata := ParseMetadata(doc)
		for i, key := range stampKeys {
			stamp[i] = metadata[key]
		}
		return stamp
	}
	return of(a) == of(b)
}

// A releaseOrigin contains the metadata that identify the release that made a machine
// version: the ID of our release, and Fly's own release record.
type releaseOrigin struct {
	Release string `json:"release_id"`
	Fly     string `json:"fly_release_id"`
	Version string `json:"fly_release_version"`
	Client  string `json:"fly_flyctl_version"`
}

func parseOrigin(config json.RawMessage) releaseOrigin {
	var c struct{ Metadata releaseOrigin }
	if json.Unmarshal(config, &c) != nil {
		return releaseOrigin{}
	}
	return c.Metadata
}

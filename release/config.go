package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// stampKeys are the metadata keys that say by whom and when, not what.
var stampKeys = [...]string{
	MetaRelease, MetaRevision, MetaMachine,
	"fly_release_id", "fly_release_version", "fly_flyctl_version",
}

// Canonical is the one form of a JSON document: keys sorted, no white space,
// numbers as they were written. Nothing that this program has never heard of
// is lost. A document that is not JSON is returned as it is.
func Canonical(doc json.RawMessage) json.RawMessage {
	v, err := decodeJSON(doc)
	if err != nil {
		return doc
	}
	return encodeJSON(v)
}

// SameConfig says whether two machine configs ask for the same: equal but for
// the metadata that says by which release, for which machine a standby stands
// by and which volume a mount is (IDs that no plan can know), for what Fly tells
// of that volume, for the repository that an image with a digest is taken from,
// and for empty objects and lists, which Fly adds and drops as it likes.
func SameConfig(a, b json.RawMessage) bool {
	return bytes.Equal(normalizeConfig(a), normalizeConfig(b))
}

// hashJSON is the name of any value: 64 hex digits of its canonical JSON.
func hashJSON(v any) string {
	doc, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own types come here, and those marshal
	}
	sum := sha256.Sum256(Canonical(doc))
	return hex.EncodeToString(sum[:])
}

// hashConfig is hash of a document, remembered.
func hashConfig(doc json.RawMessage) string {
	return configHashes.get(doc, func(doc json.RawMessage) string { return hashJSON(doc) })
}

var (
	normalizedConfigs docCache[[]byte]
	configHashes      docCache[string]
	checkCounts       docCache[int]
	configMetadata    docCache[map[string]string]
)

// Metadata are those of a machine config; nil if it has none. Nobody changes them.
func Metadata(config json.RawMessage) map[string]string {
	return configMetadata.get(config, parseMetadata)
}

func parseMetadata(config json.RawMessage) map[string]string {
	var c struct{ Metadata map[string]string }
	if json.Unmarshal(config, &c) != nil {
		return nil
	}
	return c.Metadata
}

// normalizeConfig is what SameConfig compares. Nobody changes it.
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

// removeEmpty leaves out what is empty, from the inside out.
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

// ChecksIn counts the health checks that a config asks for. A machine that
// reports fewer has not been checked yet, whatever it reports.
func ChecksIn(config json.RawMessage) int { return checkCounts.get(config, countChecks) }

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

// SameStamps says whether two configs belong to the same release: whether the
// metadata that SameConfig ignores is equal.
func SameStamps(a, b json.RawMessage) bool {
	of := func(doc json.RawMessage) (stamp [len(stampKeys)]string) {
		metadata := Metadata(doc)
		for i, key := range stampKeys {
			stamp[i] = metadata[key]
		}
		return stamp
	}
	return of(a) == of(b)
}

// A releaseOrigin is what a machine's metadata say of the release that made it what it
// is: ours, and Fly's own record of it.
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

package machineconfig

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/microbima/release/internal/rawjson"
	"github.com/microbima/release/release"
)

// Metadata keys in which flyctl names its Fly release and its version.
const (
	flyReleaseKey = "fly_release_id"
	flyVersionKey = "fly_release_version"
	flyClientKey  = "fly_flyctl_version"
)

// originKeys are the metadata keys of a release.Origin.
var originKeys = [...]string{release.MetaRelease, release.MetaRevision, release.MetaMachine, flyReleaseKey, flyVersionKey, flyClientKey}

// fingerprints returns the Fingerprint and the ExactFingerprint of a config. See
// release.ConfigFacts for what each ignores.
func fingerprints(doc json.RawMessage) (same, exact string) {
	v, err := rawjson.Decode(doc)
	if err != nil {
		sum := fingerprint(doc)
		return sum, sum
	}
	config, _ := v.(map[string]any)
	removeVolumeFacts(config)
	exact = fingerprint(appendSorted(make([]byte, 0, len(doc)), v))
	removeRunFacts(config)
	return fingerprint(appendSorted(make([]byte, 0, len(doc)), removeEmpty(v))), exact
}

// fingerprint returns the first 32 hex digits of the SHA-256 of doc. They only have to
// distinguish the configs of one environment: the hash of a plan covers the documents.
func fingerprint(doc []byte) string {
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:16])
}

// removeVolumeFacts removes what Fly reports of the volumes of a config, which old
// configs may lack: size and encryption.
func removeVolumeFacts(config map[string]any) {
	for _, mount := range mountsOf(config) {
		delete(mount, "size_gb")
		delete(mount, "encrypted")
	}
}

// removeRunFacts removes what no plan contains: the origin, the IDs of volumes and of the
// machine that a standby replaces, and the repository of an image that has a digest.
func removeRunFacts(config map[string]any) {
	if metadata, ok := config["metadata"].(map[string]any); ok {
		for _, key := range originKeys {
			delete(metadata, key)
		}
	}
	if env, ok := config["env"].(map[string]any); ok {
		delete(env, "FLY_STANDBY_FOR")
	}
	delete(config, "standbys")
	if image, ok := config["image"].(string); ok && release.Image(image).Digest() != "" {
		config["image"] = release.Image(image).Digest()
	}
	for _, mount := range mountsOf(config) {
		delete(mount, "volume")
	}
}

func mountsOf(config map[string]any) (mounts []map[string]any) {
	all, _ := config["mounts"].([]any)
	for _, m := range all {
		if mount, ok := m.(map[string]any); ok {
			mounts = append(mounts, mount)
		}
	}
	return mounts
}

// removeEmpty returns v without empty objects and lists, at any depth, or nil if
// nothing remains. Fly adds and removes them.
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

// appendSorted appends a decoded JSON value to b, with sorted keys. Different values have
// different forms. It is faster than encoding/json.
func appendSorted(b []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		b = append(b, '{')
		for _, key := range keys {
			b = append(strconv.AppendQuote(b, key), ':')
			b = append(appendSorted(b, v[key]), ',')
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for _, item := range v {
			b = append(appendSorted(b, item), ',')
		}
		return append(b, ']')
	case string:
		return strconv.AppendQuote(b, v)
	case json.Number:
		return append(b, v...)
	case bool:
		return strconv.AppendBool(b, v)
	}
	return append(b, "null"...)
}

package payload

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
)

// maxBase64 is the number of nested base64 encodings that decodeString decodes.
const maxBase64 = 3

// decodeString returns the content of a JSON string and its kind: '0' for a plain
// string, '1' for one in base64, '2' for base64 in base64, and so on. The same file is
// a plain string in fly.toml and in base64 in a machine's config.
//
// encodeString(kind, content) returns the same literal, byte for byte. A string for
// which it would not has the kind jsonKind and the literal as its content.
func decodeString(literal []byte) (kind byte, content []byte) {
	var text string
	if json.Unmarshal(literal, &text) != nil {
		return jsonKind, literal
	}
	kind, content = '0', []byte(text)
	for kind < '0'+maxBase64 && len(content) >= shareFrom/2 {
		decoded, err := base64.StdEncoding.Strict().AppendDecode(nil, content)
		if err != nil || bytes.ContainsAny(content, "\r\n") {
			break
		}
		kind, content = kind+1, decoded
	}
	if again, ok := encodeString(kind, content); !ok || !bytes.Equal(again, literal) {
		return jsonKind, literal
	}
	return kind, content
}

// encodeString returns the JSON string with a kind and a content. ok is false for an
// unknown kind.
func encodeString(kind byte, content []byte) (literal []byte, ok bool) {
	if kind < '0' || kind > '0'+maxBase64 {
		return nil, false
	}
	for ; kind > '0'; kind-- {
		content = base64.StdEncoding.AppendEncode(nil, content)
	}
	literal, err := json.Marshal(string(content))
	return literal, err == nil
}

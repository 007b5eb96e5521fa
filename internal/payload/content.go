package payload

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
)

// maxBase64 is how often a string may be encoded in base64 to be recognized.
const maxBase64 = 3

// stringContent returns what a JSON string stands for, and its kind: '0' for a
// plain string, '1' for one in base64, '2' for base64 in base64, and so on. The
// same file is a plain string in fly.toml and in base64 in a machine's config.
//
// stringOf(kind, content) is that JSON string, byte for byte. A string of which
// that would not be so has the kind of JSON, and itself as its content.
func stringContent(literal []byte) (kind byte, content []byte) {
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
	if again, ok := stringOf(kind, content); !ok || !bytes.Equal(again, literal) {
		return jsonKind, literal
	}
	return kind, content
}

// stringOf returns the JSON string of a kind with that content.
func stringOf(kind byte, content []byte) (literal []byte, ok bool) {
	if kind < '0' || kind > '0'+maxBase64 {
		return nil, false
	}
	for ; kind > '0'; kind-- {
		content = base64.StdEncoding.AppendEncode(nil, content)
	}
	literal, err := json.Marshal(string(content))
	return literal, err == nil
}

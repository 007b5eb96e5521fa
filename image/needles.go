package image

import (
	"bytes"
	"encoding/base64"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	aToken = "a token of this worker's"
	aKey   = "a private key"
)

// Needles are what is found where a token is.
type needles struct {
	all     [][]byte
	longest int
}

const (
	shortestToken = 12
	// A token is known by its end: Fly's have hundreds of bytes, and those of one
	// organization begin alike.
	needle = 48
)

// newNeedles are those of tokens as they are, and in base64, which is how Docker
// keeps a login: there a token may begin at any of three places in a group.
func newNeedles(tokens []string) (n needles) {
	for _, token := range tokens {
		if len(token) < shortestToken {
			continue
		}
		n.add([]byte(token))
		for offset, skip := range []int{0, 2, 3} { // characters that have bits of what is before it
			padded := append(make([]byte, offset), token...)
			encoded := base64.RawStdEncoding.EncodeToString(padded)
			n.add([]byte(encoded[skip : len(padded)*8/6])) // the last may have bits of what is after it
		}
	}
	return n
}

func (n *needles) add(b []byte) {
	b = b[max(0, len(b)-needle):]
	n.all, n.longest = append(n.all, b), max(n.longest, len(b))
}

// in says whether one of them is in b.
func (n needles) in(b []byte) bool {
	return slices.ContainsFunc(n.all, func(needle []byte) bool { return bytes.Contains(b, needle) })
}

// inText says what is wrong with a short text, or "".
func (s *search) inText(text []byte) string {
	switch {
	case s.needles.in(text):
		return aToken
	case hasPrivateKey(text):
		return aKey
	}
	return ""
}

// privateKey is the first line of one in PEM or PGP's armor, and the beginning of
// the next: programs that read keys hold the first line alone, and so do their
// manuals. In JSON, lines end with \n.
var privateKey = regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\\*r|\r)?(?:\\+n|\n)[ \t]*(?:[A-Za-z0-9+/]{16}|[A-Z][A-Za-z-]+: |\r?\n)`)

// keyWithin is how far into a file a key may begin to be one.
const keyWithin = 64 << 10

func hasPrivateKey(b []byte) bool {
	b = b[:min(len(b), keyWithin+256)]
	return bytes.Contains(b, []byte("PRIVATE KEY")) && privateKey.Match(b)
}

// isEnvFile says whether a file is one of env vars by its name, and not the
// example that tells people which there are.
func isEnvFile(where string) bool {
	name := path.Base(where)
	return name == ".env" || strings.HasPrefix(name, ".env.") &&
		!slices.Contains([]string{".example", ".sample", ".template", ".dist"}, path.Ext(name))
}

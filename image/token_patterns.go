package image

import (
	"bytes"
	"encoding/base64"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Kinds of secrets in the entries that Registry.Secrets returns.
const (
	foundToken = "a token of this worker"
	foundKey   = "a private key"
)

// tokenPatterns are byte sequences that occur where a token occurs.
type tokenPatterns struct {
	all     [][]byte
	longest int // bytes of the longest pattern
}

const (
	minTokenLength = 12
	// maxPatternLength limits a pattern to the end of a token. Fly's tokens have
	// hundreds of bytes, and those of one organization begin alike.
	maxPatternLength = 48
)

// newTokenPatterns returns the patterns of tokens as plain text and in base64,
// which Docker stores logins in. In base64 a token may start at any of three
// offsets in a group.
func newTokenPatterns(tokens []string) (p tokenPatterns) {
	for _, token := range tokens {
		if len(token) < minTokenLength {
			continue
		}
		p.add([]byte(token))
		for offset, skip := range []int{0, 2, 3} { // skip the characters with bits of the preceding bytes
			padded := append(make([]byte, offset), token...)
			encoded := base64.RawStdEncoding.EncodeToString(padded)
			p.add([]byte(encoded[skip : len(padded)*8/6])) // the last may have bits of the following bytes
		}
	}
	return p
}

func (p *tokenPatterns) add(b []byte) {
	b = b[max(0, len(b)-maxPatternLength):]
	p.all, p.longest = append(p.all, b), max(p.longest, len(b))
}

// match reports whether b contains one of the patterns.
func (p tokenPatterns) match(b []byte) bool {
	return slices.ContainsFunc(p.all, func(pattern []byte) bool { return bytes.Contains(b, pattern) })
}

// findInText returns the kind of secret in a short text, or "".
func (s *search) findInText(text []byte) string {
	switch {
	case s.tokens.match(text):
		return foundToken
	case hasPrivateKey(text):
		return foundKey
	}
	return ""
}

// privateKey matches the first line of a private key in PEM or PGP armor and the
// beginning of the second. Programs that read keys, and their manuals, contain the
// first line alone. In JSON, lines end with \n.
var privateKey = regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\\*r|\r)?(?:\\+n|\n)[ \t]*(?:[A-Za-z0-9+/]{16}|[A-Z][A-Za-z-]+: |\r?\n)`)

// maxKeyOffset is the offset in a file up to which a private key is found.
const maxKeyOffset = 64 << 10

// hasPrivateKey reports whether b begins with, or soon contains, a private key.
func hasPrivateKey(b []byte) bool {
	b = b[:min(len(b), maxKeyOffset+256)]
	return bytes.Contains(b, []byte("PRIVATE KEY")) && privateKey.Match(b)
}

// isEnvFile reports whether a file holds env vars by its name. Examples such as
// .env.example do not count.
func isEnvFile(file string) bool {
	name := path.Base(file)
	return name == ".env" || strings.HasPrefix(name, ".env.") &&
		!slices.Contains([]string{".example", ".sample", ".template", ".dist"}, path.Ext(name))
}

package flytoml

import (
	"errors"
	"strings"
)

// splitWords splits a command line as flyctl does: like a shell, with quotes,
// backslashes and # comments, but without expansion.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	in := false // inside a word, which may be empty if it is quoted
	end := func() {
		if in {
			words = append(words, word.String())
			word.Reset()
			in = false
		}
	}
	runes := []rune(s)
	for i := 0; i < len(runes); i++ {
		switch c := runes[i]; {
		case strings.ContainsRune(" \t\r\n", c):
			end()
		case c == '#' && !in:
			for i < len(runes) && runes[i] != '\n' {
				i++
			}
		case c == '\\':
			if i++; i == len(runes) {
				return nil, errors.New("ends in a lone backslash")
			}
			in = true
			word.WriteRune(runes[i])
		case c == '\'' || c == '"':
			in = true
			closed := false
			for i++; i < len(runes); i++ {
				if closed = runes[i] == c; closed {
					break
				}
				if runes[i] == '\\' && c == '"' && i+1 < len(runes) {
					i++
				}
				word.WriteRune(runes[i])
			}
			if !closed {
				return nil, errors.New("has a quote that is never closed")
			}
		default:
			in = true
			word.WriteRune(c)
		}
	}
	end()
	return words, nil
}

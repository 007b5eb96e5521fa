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
			text, end, err := readQuoted(runes, i)
			if err != nil {
				return nil, err
			}
			word.WriteString(text)
			i = end
		default:
			in = true
			word.WriteRune(c)
		}
	}
	end()
	return words, nil
}

// readQuoted returns the text between the quote at start and the one that closes
// it, and the position of the latter.
func readQuoted(runes []rune, start int) (text string, end int, err error) {
	var b strings.Builder
	quote := runes[start]
	for i := start + 1; i < len(runes); i++ {
		if runes[i] == quote {
			return b.String(), i, nil
		}
		if runes[i] == '\\' && quote == '"' && i+1 < len(runes) {
			i++
		}
		b.WriteRune(runes[i])
	}
	return "", 0, errors.New("has a quote that is never closed")
}

package tomldoc

import (
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Nearest returns the name that a misspelled word most likely means, or "" if
// none is similar.
func Nearest(word string, names []string) string {
	best, least := "", 0
	for _, name := range slices.Sorted(slices.Values(names)) {
		d := levenshtein.Distance(strings.ToLower(word), strings.ToLower(name), nil)
		// A third of the letters may differ; in short words, one letter.
		if d > 1 && sortedLetters(word) == sortedLetters(name) {
			d = 1 // only transposed
		}
		if d < len(word) && d <= max(1, min(len(word), len(name))/3) && (best == "" || d < least) {
			best, least = name, d
		}
	}
	return best
}

func sortedLetters(s string) string {
	b := []byte(strings.ToLower(s))
	slices.Sort(b)
	return string(b)
}

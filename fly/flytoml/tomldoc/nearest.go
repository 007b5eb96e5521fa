package tomldoc

import (
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Nearest is the one of names that someone who wrote word most likely meant,
// or "" if none is close.
func Nearest(word string, names []string) string {
	best, least := "", 0
	for _, name := range slices.Sorted(slices.Values(names)) {
		d := levenshtein.Distance(strings.ToLower(word), strings.ToLower(name), nil)
		// A third of the letters may be wrong; of two short words, one letter.
		if d > 1 && sortedLetters(word) == sortedLetters(name) {
			d = 1 // only swapped
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

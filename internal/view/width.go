package view

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// defaultWidth is how wide text is that nothing limits and that is wrapped all
// the same: lists of names.
const defaultWidth = 100

func (s Style) width() int {
	if s.Width > 0 {
		return s.Width
	}
	return defaultWidth
}

// columns is how many columns of a terminal text takes.
func columns(text string) (n int) {
	for _, r := range text {
		n += runeColumns(r)
	}
	return n
}

func runeColumns(r rune) int {
	if r < 0x80 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// Rows returns how many rows of a screen lines take that were drawn on it.
func (s Style) Rows(lines []string) (n int) {
	for _, line := range lines {
		n++
		if s.Width > 0 {
			n += max(0, columns(unpainted(line))-1) / s.Width
		}
	}
	return n
}

// fitting is how many bytes of text fit into some columns.
func fitting(text string, room int) int {
	for i, r := range text {
		if room -= runeColumns(r); room < 0 {
			return i
		}
	}
	return len(text)
}

// wrap writes text after first, in lines of at most the style's width. Further
// lines begin below the text and never at the left, where lines of their own do.
// A word longer than a line is left whole, and so are two spaces: every end of a
// line stands for one.
func (s Style) wrap(first, text string) string {
	start := columns(unpainted(first))
	indent := max(4, start)
	var b strings.Builder
	b.WriteString(first)
	at := start
	words := strings.Split(text, " ")
	for i, word := range words {
		wide := columns(unpainted(word))
		switch {
		case i == 0:
		case at+1+wide > s.width() && word != "" && words[i-1] != "":
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += wide
	}
	return b.String() + "\n"
}

// fold is wrap on a terminal; what is read by programs keeps its lines.
func (s Style) fold(first, text string) string {
	if s.Width <= 0 {
		return first + text + "\n"
	}
	return s.wrap(first, text)
}

// unpainted is text without the codes of its hues.
func unpainted(text string) string {
	if !strings.Contains(text, "\x1b") {
		return text
	}
	return strings.NewReplacer(string(bold), "", string(dim), "", string(red), "", string(green), "", string(yellow), "", hueEnd, "").Replace(text)
}

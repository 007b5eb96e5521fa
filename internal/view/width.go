package view

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// defaultWidth is the width at which lists of names are wrapped if the style has none.
const defaultWidth = 100

func (s Style) width() int {
	if s.Width > 0 {
		return s.Width
	}
	return defaultWidth
}

// textWidth returns how many columns of a terminal text takes.
func textWidth(text string) (n int) {
	for _, r := range text {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
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

// Rows returns how many rows of a screen the lines take once they are drawn.
func (s Style) Rows(lines []string) (n int) {
	for _, line := range lines {
		n++
		if s.Width > 0 {
			n += max(0, textWidth(stripColour(line))-1) / s.Width
		}
	}
	return n
}

// fittingBytes returns how many bytes of text fit into room columns.
func fittingBytes(text string, room int) int {
	for i, r := range text {
		if room -= runeWidth(r); room < 0 {
			return i
		}
	}
	return len(text)
}

// wrap returns first and text, in lines of at most the style's width. Further lines are
// indented to the start of text, by 4 at least, so that they look like no new line. A
// word longer than a line is not split, nor are two spaces: a line break stands for
// exactly one.
func (s Style) wrap(first, text string) string {
	start := textWidth(stripColour(first))
	indent := max(4, start)
	var b strings.Builder
	b.WriteString(first)
	at := start
	words := strings.Split(text, " ")
	for i, word := range words {
		wide := textWidth(stripColour(word))
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

// fold is wrap on a terminal. Elsewhere, where programs read it, text stays on one line.
func (s Style) fold(first, text string) string {
	if s.Width <= 0 {
		return first + text + "\n"
	}
	return s.wrap(first, text)
}

// stripColour returns text without the codes of its colours.
func stripColour(text string) string {
	if !strings.Contains(text, "\x1b") {
		return text
	}
	return strings.NewReplacer(string(bold), "", string(dim), "", string(red), "", string(green), "", string(yellow), "", colourReset, "").Replace(text)
}

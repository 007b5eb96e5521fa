package view

import (
	"fmt"
	"regexp"
	"strings"
)

// Markdown returns text as Markdown that shows it as it is, on one line: nothing
// of it becomes a link, an image, a heading, HTML, mathematics, or the end of what
// it stands in.
func Markdown(text string) string {
	words := strings.Fields(Escape(text))
	for i, word := range words {
		words[i] = markdownWord(word, i == 0)
	}
	return strings.Join(words, " ")
}

// summaryBytes is how long a summary may be: Temporal takes 400 bytes.
const summaryBytes = 380

// Summary is text as the one line of Markdown that Temporal shows beside a
// workflow, an activity or a timer. What is too long for it is left out, by words.
func Summary(text string) string {
	var b strings.Builder
	for i, word := range strings.Fields(Escape(text)) {
		word = markdownWord(word, i == 0)
		if b.Len()+len(word)+1 > summaryBytes {
			return strings.TrimSpace(b.String() + " …")
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
	}
	return b.String()
}

// marks are the characters that mean something within a line of Markdown. They
// are written as entities, which no reader of Markdown looks into.
const marks = "\\`*_[]{}<>&|~$^"

// linked is what readers of Markdown make a link of by themselves.
var linked = regexp.MustCompile(`(?i)[a-z]:/|www\.|mailto:|xmpp:|@`)

func markdownWord(word string, first bool) string {
	if isHarmless(word) { // most are, and details have thousands
		return word
	}
	links := strings.ContainsAny(word, ":.@") && linked.MatchString(word)
	if links && !strings.ContainsAny(word, "`|\\") {
		return "`" + word + "`"
	}
	var b strings.Builder
	for i, r := range word {
		begins := first && (i == 0 && r < 0x80 && !isLetter(r) || i > 0 && (r == '.' || r == ')') && isNumber(word[:i]))
		if begins && !isDigit(r) || strings.ContainsRune(marks, r) || links && strings.ContainsRune(":.@/", r) {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// isHarmless reports whether a word is of letters, digits, hyphens and commas, and
// begins with a letter or digit: no reader of Markdown makes anything of it.
func isHarmless(word string) bool {
	for i := range len(word) {
		if r := rune(word[i]); !isLetter(r) && !isDigit(r) && (i == 0 || r != '-' && r != ',') {
			return false
		}
	}
	return true
}

func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

func isDigit(r rune) bool { return '0' <= r && r <= '9' }

func isNumber(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !isDigit(r) })
}

// Code is text on one line in Markdown's type of code, where it can be, or "–".
func Code(text string) string {
	text = cleanLine(text)
	switch {
	case text == "":
		return "–"
	case strings.ContainsAny(text, "`|\\") || strings.TrimSpace(text) != text:
		return Markdown(text)
	}
	return "`" + text + "`"
}

// fenced is text as a block of code, in a fence that no line of it ends.
func fenced(language, text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + language + "\n" + strings.TrimRight(text, "\n") + "\n" + fence + "\n"
}

// address is a URL that may be the target of a link.
var address = regexp.MustCompile(`^https?://[A-Za-z0-9.:-]+/?$`)

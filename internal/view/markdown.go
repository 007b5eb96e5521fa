package view

import (
	"fmt"
	"regexp"
	"strings"
)

// Markdown returns Markdown that shows text literally, on one line: no part of it
// becomes a link, an image, a heading, HTML or mathematics, or ends the block that it
// is in.
func Markdown(text string) string {
	words := strings.Fields(Escape(text))
	for i, word := range words {
		words[i] = markdownWord(word, i == 0)
	}
	return strings.Join(words, " ")
}

// summaryBytes limits a summary: Temporal accepts 400 bytes.
const summaryBytes = 380

// Summary returns text as the line of Markdown that Temporal shows beside a workflow,
// an activity or a timer. Text that is too long is cut between words.
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

// markdownSpecial lists the characters with a meaning within a line of Markdown. They
// are written as HTML entities.
const markdownSpecial = "\\`*_[]{}<>&|~$^"

// autoLinked matches text that Markdown renderers turn into a link.
var autoLinked = regexp.MustCompile(`(?i)[a-z]:/|www\.|mailto:|xmpp:|@`)

func markdownWord(word string, first bool) string {
	if isPlainWord(word) { // the fast path: details have thousands of words
		return word
	}
	links := strings.ContainsAny(word, ":.@") && autoLinked.MatchString(word)
	if links && !strings.ContainsAny(word, "`|\\") {
		return "`" + word + "`"
	}
	var b strings.Builder
	for i, r := range word {
		if first && beginsBlock(word, i, r) || strings.ContainsRune(markdownSpecial, r) || links && strings.ContainsRune(":.@/", r) {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// beginsBlock reports whether r at word[i] can start a heading, a list, a quote or a fence
// at the beginning of a line, like # or the full stop in "1.".
func beginsBlock(word string, i int, r rune) bool {
	if i == 0 {
		return r < 0x80 && !isLetter(r) && !isDigit(r)
	}
	return (r == '.' || r == ')') && isNumber(word[:i])
}

// isPlainWord reports whether a word consists of letters, digits, hyphens and commas,
// and begins with a letter or digit. Such a word means nothing in Markdown.
func isPlainWord(word string) bool {
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

// Code returns text as a Markdown code span, or like Markdown if a code span cannot
// hold it. For "" it returns "–".
func Code(text string) string {
	text = escapeLine(text)
	switch {
	case text == "":
		return "–"
	case strings.ContainsAny(text, "`|\\") || strings.TrimSpace(text) != text:
		return Markdown(text)
	}
	return "`" + text + "`"
}

// codeBlock returns text as a block of code, with a fence longer than any in text.
func codeBlock(language, text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + language + "\n" + strings.TrimRight(text, "\n") + "\n" + fence + "\n"
}

// linkTarget matches a URL that is safe to link: a host, without path or query.
var linkTarget = regexp.MustCompile(`^https?://[A-Za-z0-9.:-]+/?$`)

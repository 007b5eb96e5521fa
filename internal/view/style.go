package view

import (
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// A Style describes the screen of the reader.
type Style struct {
	Colour bool
	Width  int            // columns; 0: no limit
	Height int            // rows that Live may take; 0: no limit
	Zone   *time.Location // of times of day; nil is UTC
	Whole  bool           // show each app and machine separately, and long values in full
}

type colour string

const (
	noColour colour = ""
	bold     colour = "\x1b[1m"
	dim      colour = "\x1b[2m"
	red      colour = "\x1b[31m"
	green    colour = "\x1b[32m"
	yellow   colour = "\x1b[33m"

	colourReset = "\x1b[0m"
)

func (s Style) paint(h colour, text string) string {
	if !s.Colour || h == noColour || text == "" {
		return text
	}
	return string(h) + text + colourReset
}

func (s Style) clock(t time.Time) string {
	return s.local(t).Format(time.TimeOnly)
}

func (s Style) day(t time.Time) string {
	return s.local(t).Format("2006-01-02 15:04")
}

func (s Style) local(t time.Time) time.Time {
	if s.Zone == nil {
		return t.UTC()
	}
	return t.In(s.Zone)
}

// A cell is a part of a line.
type cell struct {
	text   string
	colour colour
}

// table aligns rows in columns two spaces apart. Every line begins with indent.
func (s Style) table(indent string, rows [][]cell) []string {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], textWidth(c.text))
		}
	}
	lines := make([]string, len(rows))
	for i, row := range rows {
		padded := []cell{{text: indent}}
		for j, c := range row {
			if j > 0 {
				padded = append(padded, cell{text: "  "})
			}
			padded = append(padded, c, cell{text: strings.Repeat(" ", widths[j]-textWidth(c.text))})
		}
		lines[i] = s.line(padded...)
	}
	return lines
}

// line joins cells to one line, truncated to the screen's width.
func (s Style) line(cells ...cell) string {
	end := len(cells)
	for end > 0 && strings.TrimSpace(cells[end-1].text) == "" {
		end--
	}
	var b strings.Builder
	room := s.Width
	for i, c := range cells[:end] {
		if i == end-1 {
			c.text = strings.TrimRight(c.text, " ")
		}
		if s.Width > 0 {
			width := textWidth(c.text)
			if width > room {
				b.WriteString(s.paint(c.colour, truncate(c.text, max(1, room))))
				break
			}
			if room -= width; room == 0 {
				b.WriteString(s.paint(c.colour, c.text))
				break
			}
		}
		b.WriteString(s.paint(c.colour, c.text))
	}
	return b.String()
}

// progressMark is one sign for how far something is, and its hue.
func progressMark(p release.Progress) cell {
	switch p {
	case release.ProgressDone:
		return cell{"✓", green}
	case release.ProgressRunning:
		return cell{"▸", yellow}
	case release.ProgressFailed:
		return cell{"✗", red}
	case release.ProgressUnchanged:
		return cell{"=", dim}
	}
	return cell{"·", dim}
}

// outcomeMark returns the sign of an outcome and its colour.
func outcomeMark(o release.Outcome) (sign string, h colour) {
	switch o {
	case release.Promoted, release.Unchanged, release.Restored:
		return "✓", green
	case release.RolledBack, release.Superseded:
		return "↩", yellow
	case "":
		return "▸", yellow
	}
	return "✗", red
}

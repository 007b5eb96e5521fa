package flysim

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/microbima/release/fly"
)

// A line is one that a machine printed, or that Fly says of it.
type line struct {
	fly.LogLine
	Number uint64 `json:"number"` // later ones have higher numbers
}

// logs shows what machines printed, oldest first: all that is kept, or what
// came after next_token was given.
func (s *Sim) logs(c *call) (any, error) {
	seen, _ := strconv.ParseUint(c.query("next_token"), 10, 64)
	var lines []line
	for _, m := range c.app.sorted() {
		if want := c.query("instance"); want != "" && want != m.View.ID {
			continue
		}
		if m.proc != nil {
			s.readLog(m, m.proc)
		}
		for _, l := range m.Lines {
			if l.Number > seen {
				lines = append(lines, l)
			}
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.Number, b.Number) })
	data := []any{}
	for _, l := range lines {
		seen = l.Number
		data = append(data, map[string]any{"id": strconv.FormatUint(l.Number, 10), "attributes": l.LogLine})
	}
	return map[string]any{"data": data, "meta": map[string]any{"next_token": strconv.FormatUint(seen, 10)}}, nil
}

// readLog keeps what proc has printed since it was read last.
func (s *Sim) readLog(m *machine, proc Process) {
	if m.printer != proc {
		m.printer, m.printed = proc, nil
	}
	now := proc.Log()
	known := min(len(m.printed), len(now))
	for !slices.Equal(m.printed[len(m.printed)-known:], now[:known]) {
		known--
	}
	m.printed = now
	for _, text := range now[known:] {
		s.logLine(m, text)
	}
}

// keepLog reads the log of a process that has ended.
func (s *Sim) keepLog(m *machine, proc Process) {
	s.readLog(m, proc)
	s.dirty = true
}

// logLine adds to what is kept of m's log.
func (s *Sim) logLine(m *machine, text string) {
	const kept = 200
	s.world.Seq++
	m.Lines = append(m.Lines, line{fly.LogLine{At: s.now(), Message: text, Level: "info", Instance: m.View.ID, Region: m.View.Region}, s.world.Seq})
	m.Lines = m.Lines[max(0, len(m.Lines)-kept):]
}

package flysim

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/microbima/release/fly"
)

// A logEntry is a line of a machine's output or of Fly's messages about it.
type logEntry struct {
	fly.LogLine
	Number uint64 `json:"number"` // increases with every line
}

// listLogs returns log lines, oldest first: all that are kept, or those after
// next_token.
func (s *Sim) listLogs(c *call) (any, error) {
	seen, _ := strconv.ParseUint(c.queryParam("next_token"), 10, 64)
	var lines []logEntry
	for _, m := range c.app.sortedMachines() {
		if want := c.queryParam("instance"); want != "" && want != m.View.ID {
			continue
		}
		if m.proc != nil {
			s.collectLog(m, m.proc)
		}
		for _, l := range m.Lines {
			if l.Number > seen {
				lines = append(lines, l)
			}
		}
	}
	slices.SortFunc(lines, func(a, b logEntry) int { return cmp.Compare(a.Number, b.Number) })
	data := []any{}
	for _, l := range lines {
		seen = l.Number
		data = append(data, map[string]any{"id": strconv.FormatUint(l.Number, 10), "attributes": l.LogLine})
	}
	return map[string]any{"data": data, "meta": map[string]any{"next_token": strconv.FormatUint(seen, 10)}}, nil
}

// collectLog appends the lines that proc has printed since the last call.
func (s *Sim) collectLog(m *machine, proc Process) {
	if m.logSource != proc {
		m.logSource, m.logSeen = proc, nil
	}
	now := proc.Log()
	known := min(len(m.logSeen), len(now))
	for !slices.Equal(m.logSeen[len(m.logSeen)-known:], now[:known]) {
		known--
	}
	m.logSeen = now
	for _, text := range now[known:] {
		s.appendLog(m, text)
	}
}

// collectFinalLog collects the log of a process that has ended.
func (s *Sim) collectFinalLog(m *machine, proc Process) {
	s.collectLog(m, proc)
	s.unsaved = true
}

// appendLog adds a line to m's log and drops the oldest ones.
func (s *Sim) appendLog(m *machine, text string) {
	const kept = 200
	s.state.Seq++
	m.Lines = append(m.Lines, logEntry{fly.LogLine{At: s.now(), Message: text, Level: "info", Instance: m.View.ID, Region: m.View.Region}, s.state.Seq})
	m.Lines = m.Lines[max(0, len(m.Lines)-kept):]
}

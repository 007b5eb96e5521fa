package cli

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/client"
	"github.com/microbima/release/release"
)

// A screen simulates the part of a terminal that the live view uses: lines that wrap and
// scroll, and a cursor that moves up and erases below.
type screen struct {
	width, height int
	rows          [][]rune
	row, column   int
	history       []string // rows scrolled out
}

func newScreen(width, height int) *screen {
	return &screen{width: width, height: height, rows: make([][]rune, height)}
}

var controls = regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`)

func (s *screen) Write(p []byte) (int, error) {
	for text := string(p); text != ""; {
		if m := controls.FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			s.control(m[1], m[2])
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		switch {
		case r == '\n':
			s.down()
			s.column = 0
		case s.column == s.width:
			s.down()
			s.column = 0
			s.put(r)
		default:
			s.put(r)
		}
	}
	return len(p), nil
}

func (s *screen) put(r rune) {
	s.rows[s.row] = append(s.rows[s.row][:min(len(s.rows[s.row]), s.column)], r)
	s.column++
}

func (s *screen) down() {
	if s.row++; s.row < s.height {
		return
	}
	s.history = append(s.history, string(s.rows[0]))
	s.rows, s.row = append(s.rows[1:], nil), s.height-1
}

func (s *screen) control(n, what string) {
	switch what {
	case "A":
		up, _ := strconv.Atoi(n)
		s.row = max(0, s.row-up)
	case "J":
		s.rows[s.row] = s.rows[s.row][:min(len(s.rows[s.row]), s.column)]
		for i := s.row + 1; i < s.height; i++ {
			s.rows[i] = nil
		}
	}
}

func (s *screen) String() string {
	var b strings.Builder
	for _, row := range s.rows {
		b.WriteString(string(row) + "\n")
	}
	return b.String()
}

// On a screen of 24 rows the block stays in place at any length and shows the choices.
func TestWatch_LiveView(t *testing.T) {
	now := time.Date(2026, 3, 9, 14, 0, 0, 0, time.UTC)
	status := release.Status{
		ID: "release/shop/4f2d1c0b9a8e", Project: "shop", Revision: release.Revision{Commit: "4f2d1c0b9a8e", Subject: strings.Repeat("A long subject ", 9)},
		Phase: release.HeldPhase, Environment: "production", Started: now, Since: now,
		Held: &release.Hold{Why: strings.Repeat("the baseline could not be restored ", 6), Choices: []release.Choice{release.ChoiceRetry, release.ChoiceKeep, release.ChoiceAbandon}, Number: 1},
	}
	e := release.EnvironmentStatus{Name: "production"}
	for i := range 30 {
		target := release.TargetStatus{Target: release.Target{App: fmt.Sprintf("service-%02d", i), Environment: "production"}, Changed: true}
		for j := range 3 {
			target.Machines = append(target.Machines, release.MachineStatus{ID: fmt.Sprintf("e%02d%d", i, j), Group: "app", Region: "ams", State: "started", Verb: release.Update, Progress: release.ProgressRunning, Since: now})
		}
		e.Targets = append(e.Targets, target)
		status.Held.Machines = append(status.Held.Machines, fmt.Sprintf("machine e%02d0 of service-%02d/production is on neither the plan nor the baseline", i, i))
		status.Notes = append(status.Notes, fmt.Sprintf("note %d", i))
	}
	status.Environments = []release.EnvironmentStatus{e}
	waits := status
	waits.Held, waits.Phase = nil, release.AwaitingApproval
	waits.Gate = &release.GateStatus{Environment: "production", Plan: strings.Repeat("0123456789abcdef", 4), Approvals: 1, Until: now.Add(24 * time.Hour)}
	for name, test := range map[string]struct {
		status release.Status
		asked  []string
	}{
		"held":    {status, []string{"held, needs a resolution", "release resolve 4f2d1c0b9a8e retry", "release resolve 4f2d1c0b9a8e keep", "release resolve 4f2d1c0b9a8e abandon"}},
		"waiting": {waits, []string{"waits for 1 approval", "release approve 4f2d1c0b9a8e", "release reject 4f2d1c0b9a8e"}},
	} {
		screen := newScreen(80, 24)
		f := newFollower(&World{
			Stderr: screen, Now: func() time.Time { return now }, Env: Environ{"TERM=xterm"},
			Terminal: Terminal{Stderr: true, Size: func(io.Writer) (int, int) { return 80, 24 }},
		}, nil, test.status.ID, "")
		f.last = client.Snapshot{Status: test.status}
		fmt.Fprintln(screen, "$ release watch HEAD")
		for range 60 {
			now = now.Add(redrawInterval)
			f.drawBlock()
		}
		if n := strings.Count(strings.Join(screen.history, "\n"), "4f2d1c0b9a8e"); n > 0 {
			t.Errorf("%s: %d copies of the block's lines were scrolled away:\n%s", name, n, strings.Join(screen.history, "\n"))
		}
		if n := strings.Count(screen.String(), "shop 4f2d1c0b9a8e"); n != 1 {
			t.Errorf("%s: the header is on the screen %d times:\n%s", name, n, screen)
		}
		for _, asked := range test.asked {
			if !strings.Contains(screen.String(), asked) {
				t.Errorf("%s: %q is not on the screen:\n%s", name, asked, screen)
			}
		}
	}
}

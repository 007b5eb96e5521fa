package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/microbima/release/client"
	"github.com/microbima/release/release"
)

// watch --json prints every event once, those of a rollout between its start and its
// end, also if it joins late, and also after the release has ended.
func TestWatch_JSON(t *testing.T) {
	w := newFixture(t)
	id := w.Git("rev-parse", "HEAD")[:12]
	start := w.startCommand("start", "--wait", "--to", "production")
	start.waitFor("production waits for 1 approval")
	late := w.startCommand("watch", id, "--json")
	late.waitFor("production waits for 1 approval")
	w.want(ExitOK, []string{"approve", id, "--yes", "--by", "Bob"}, "approved by Bob")
	during := late.wait()
	during.want(t, ExitOK)
	after := w.want(ExitOK, []string{"watch", id, "--json"})
	start.wait().want(t, ExitOK, "promoted")
	if during.stdout != after.stdout {
		t.Errorf("a watch prints\n%s\nand one after the end prints\n%s", during.stdout, after.stdout)
	}
	checkEventOrder(t, readEventLines(t, after.stdout))
	if after.stderr != "" {
		t.Errorf("a complete stream has remarks: %s", after.stderr)
	}
	if lines := strings.Count(during.stderr, "production: promoted"); lines != 1 {
		t.Errorf("the outcome has %d lines:\n%s", lines, during.stderr)
	}

	// A person may send the query in the Temporal UI, which sends no argument.
	v, err := w.client.QueryWorkflow(t.Context(), "release/shop/"+id, "", release.EventsQuery)
	var page release.EventPage
	if err == nil {
		err = v.Get(&page)
	}
	if err != nil || len(page.Events) == 0 || page.Events[0].Kind != release.EventBegun {
		t.Errorf("the query without an argument: %+v, %v", page, err)
	}
}

// A stream whose events no worker can return says so.
func TestWatch_JSONWithoutWorker(t *testing.T) {
	w := newFixture(t)
	id := w.Git("rev-parse", "HEAD")[:12]
	w.want(ExitOK, []string{"start", "--wait", "--to", "staging"})
	w.stopWorker()
	got := w.want(ExitOK, []string{"watch", id, "--json"})
	if got.stdout != "" || !strings.Contains(got.stderr, "some are missing; release status "+id) {
		t.Errorf("stdout %q, stderr %q", got.stdout, got.stderr)
	}
}

func readEventLines(t *testing.T, text string) (events []client.RecordedEvent) {
	t.Helper()
	for line := range strings.Lines(text) {
		var e client.RecordedEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		events = append(events, e)
	}
	return events
}

// checkEventOrder checks that the events of a promoted release and of its rollouts are
// complete and in order.
func checkEventOrder(t *testing.T, events []client.RecordedEvent) {
	t.Helper()
	numbers, open, rollouts := map[string]int{}, "", 0
	for _, e := range events {
		if numbers[e.Run]++; e.Number != numbers[e.Run] {
			t.Errorf("event %d of %s has number %d", numbers[e.Run], e.Workflow, e.Number)
		}
		switch {
		case e.Kind == release.EventRolloutStarted:
			open = e.Rollout.Run
		case e.Kind == release.EventRolloutEnded:
			open = ""
			rollouts++
		case strings.HasPrefix(e.Workflow, "rollout/") && e.Run != open:
			t.Errorf("event %d (%s) of %s is outside of its rollout", e.Number, e.Kind, e.Workflow)
		}
	}
	if last := events[len(events)-1]; last.Kind != release.EventEnded || last.Outcome != release.Promoted || rollouts != 2 {
		t.Errorf("%d rollouts, and the last event is %+v", rollouts, last)
	}
}

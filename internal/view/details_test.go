package view_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

func TestDetails(t *testing.T) {
	golden(t, "details_gate", view.Details(status()))
	golden(t, "details_held", view.Details(held()))
	golden(t, "details_rolled_back", view.Details(rolledBack()))
	golden(t, "details_nothing_yet", view.Details(release.Status{ID: "release/microbima/4f2d", Phase: release.Loading}))
}

// The Temporal UI accepts 20 kB. Many machines must not push out the cause.
func TestDetails_ManyMachines(t *testing.T) {
	s := held()
	target := &s.Environments[1].Targets[0]
	for i := range 2000 {
		m := target.Machines[0]
		m.ID = fmt.Sprintf("e%013d", i)
		target.Machines = append(target.Machines, m)
		s.Held.Machines = append(s.Held.Machines, strings.Repeat("x", 1000))
		s.Reviews = append(s.Reviews, release.ReceivedReview{IgnoredReason: strings.Repeat("y", 1000)})
	}
	for range 200 {
		s.Notes = append(s.Notes, strings.Repeat("é", 1000))
	}
	got := view.Details(s)
	if len(got) > 20_000 || !utf8.ValidString(got) || !strings.Contains(got, "more machines") {
		t.Errorf("%d bytes of details", len(got))
	}
	if !strings.Contains(got, "no capacity in fra") {
		t.Error("the reason of the hold is missing")
	}
}

package cli

import (
	"context"
	"fmt"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/view"
)

// printReport prints the result of a release, or its status if it has not ended.
func printReport(ctx context.Context, w *World, c *client.Client, s client.Snapshot, asJSON, details bool) error {
	cost := c.Cost(ctx, s)
	if asJSON {
		s.Cost = &cost
		return w.PrintJSON(s)
	}
	style := w.Style(w.Stdout)
	style.Whole = details
	fmt.Fprint(w.Stdout, view.Report(s.Displayed(), cost.String(), w.Now(), style))
	if s.Page != "" {
		fmt.Fprintf(w.Stdout, "\n%s\n", view.Escape(s.Page))
	}
	sayIfPartial(w, s)
	return nil
}

// sayIfPartial prints that a Snapshot is incomplete, and the reason.
func sayIfPartial(w *World, s client.Snapshot) {
	switch {
	case s.Partial && s.TaskFailure != nil:
		w.Say("it is blocked and cannot answer, so only what Temporal itself has is shown: %s", view.TaskFailure(*s.TaskFailure))
	case s.Partial:
		w.Say("no worker answers, so only what Temporal itself has is shown; nothing is lost, and release %s continues once there is one (release dev, or release worker)", view.Ref(s.ID))
	}
}

// describeEnd returns the result of a release in a few words.
func describeEnd(s client.Snapshot) string {
	if s.Failed != "" {
		return "failed, " + s.Failed
	}
	return string(s.Outcome)
}

// describePhase returns the phase of a release in a few words.
func describePhase(s client.Snapshot) string {
	if s.Environment == "" {
		return string(s.Phase)
	}
	return string(s.Phase) + " (" + s.Environment + ")"
}

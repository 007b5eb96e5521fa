package cli

import (
	"context"

	"github.com/microbima/release/client"
	"github.com/microbima/release/release"
)

// Drive is a release that a program starts and follows, as release start --wait does.
type Drive struct {
	Repository string           // where workers fetch the revision
	Bake       release.Duration // instead of that of release.toml
	// Review is called for each plan that waits for approval.
	Review func(context.Context, *client.Client, client.Snapshot) error
}

// Run releases HEAD of the current directory, prints what happens and the report, and
// returns the last Snapshot: the release is over or held.
func (d Drive) Run(ctx context.Context, w *World) (client.Snapshot, error) {
	l, err := startCommand{World: w, repo: d.Repository, bake: &d.Bake}.launch(ctx, "")
	if err != nil {
		return client.Snapshot{}, err
	}
	c, err := connect(ctx, w)
	if err != nil {
		return client.Snapshot{}, err
	}
	defer c.Close()
	w.Say("")
	started, err := l.start(ctx, w, c)
	if err != nil {
		return client.Snapshot{}, err
	}
	reviewed := ""
	f := newFollower(w, c, started.ID, started.Run)
	f.until = func(s client.Snapshot) bool { return s.Gate != nil && s.Gate.Plan != reviewed }
	for {
		if err := f.watch(ctx); err != nil {
			return f.last, err
		}
		if f.last.IsOver() || f.last.Held != nil {
			return f.last, printReport(ctx, w, c, f.last, false, false)
		}
		reviewed = f.last.Gate.Plan
		if err := d.Review(ctx, c, f.last); err != nil {
			return f.last, err
		}
	}
}

// A ReviewByCommand is a review as release approve or release reject gives it.
type ReviewByCommand struct {
	ID, By, Reason string
	Approve        bool
	Ask            bool // the person at the terminal
}

// Run gives the review. The error is ErrNotApproved if the person did not approve.
func (r ReviewByCommand) Run(ctx context.Context, w *World) error {
	return reviewCommand{World: w, approve: r.Approve, yes: !r.Ask, ref: r.ID, by: r.By, reason: r.Reason}.run(ctx)
}

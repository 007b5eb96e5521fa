package cli

import (
	"context"

	"github.com/microbima/release/client"
	"github.com/microbima/release/release"
)

// Drive starts and follows a release, like release start --wait.
type Drive struct {
	Repository string           // from which workers fetch the revision
	Bake       release.Duration // replaces the bake times of release.toml
	// Review is called for each plan that waits for approval.
	Review func(context.Context, *client.Client, client.Snapshot) error
}

// Run releases HEAD of the current directory, prints the progress and the report, and
// returns the last Snapshot when the release has ended or is held.
func (d Drive) Run(ctx context.Context, w *World) (client.Snapshot, error) {
	l, err := startCommand{World: w, repo: d.Repository, bake: &d.Bake}.newLaunch(ctx, "")
	if err != nil {
		return client.Snapshot{}, err
	}
	c, err := dialTemporal(ctx, w)
	if err != nil {
		return client.Snapshot{}, err
	}
	defer c.Close()
	w.Say("")
	started, err := l.startRelease(ctx, w, c)
	if err != nil {
		return client.Snapshot{}, err
	}
	reviewed := ""
	f := newFollower(w, c, started.ID, started.Run)
	f.until = func(s client.Snapshot) bool { return s.Gate != nil && s.Gate.Plan != reviewed }
	for {
		if err := f.followChanges(ctx); err != nil {
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

// A ReviewByCommand reviews a plan like release approve or release reject.
type ReviewByCommand struct {
	ID, By, Reason string
	Approve        bool
	Ask            bool // ask the user at the terminal
}

// Run sends the review. It returns ErrNotApproved if the user answered no.
func (r ReviewByCommand) Run(ctx context.Context, w *World) error {
	return reviewCommand{World: w, approve: r.Approve, yes: !r.Ask, ref: r.ID, by: r.By, reason: r.Reason}.run(ctx)
}

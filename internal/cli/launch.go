package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/microbima/release/client"
	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// A launch starts a release for start and rollback.
type launch struct {
	request      release.Request
	path         []string // names of environments
	wait, asJSON bool
}

// launched is the JSON output for a started release.
type launched struct {
	ID       string `json:"id"`
	Run      string `json:"run"`
	Attached bool   `json:"attached"` // whether it was already running
	Page     string `json:"page"`
}

// run starts the release or attaches to a running one. Then it follows the release, or
// prints how to.
func (l launch) run(ctx context.Context, w *World, c *client.Client) error {
	started, err := l.startRelease(ctx, w, c)
	if err != nil {
		return err
	}
	if l.wait {
		return followTo(ctx, w, c, started.ID, started.Run, l.request.To, l.asJSON)
	}
	if l.asJSON {
		return w.PrintJSON(launched{started.ID, started.Run, started.Attached, c.PageURL(started.ID, started.Run)})
	}
	w.Say("  release watch %s", view.Ref(started.ID))
	fmt.Fprintln(w.Stdout, view.Ref(started.ID))
	return nil
}

// startRelease starts the release or attaches to a running one, and prints the result.
func (l launch) startRelease(ctx context.Context, w *World, c *client.Client) (client.Started, error) {
	started, err := c.Start(ctx, l.request, l.path)
	if err != nil {
		return started, err
	}
	switch started.Extended {
	case client.ByUpdate:
		w.Say("it is under way already, and continues to %s now", l.request.To)
	case client.BySignal:
		w.Say("no worker answers: the signal %s was sent, and %s continues to %s once there is one", release.ExtendSignal, view.Ref(started.ID), l.request.To)
	}
	switch {
	case started.Attached:
		w.Say("it is under way already: attached to %s", view.Ref(started.ID))
	case l.request.Rollback != nil:
		w.Say("started: %s", view.RequestTitle(l.request))
	default:
		w.Say("started: %s to %s", view.RequestTitle(l.request), strings.Join(l.path, ", then "))
	}
	if page := c.PageURL(started.ID, started.Run); page != "" {
		w.Say("  %s", page)
	}
	return started, nil
}

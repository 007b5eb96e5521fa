package activities

import (
	"context"
	"time"

	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// CloseInput is how a rollout ended, and what it may have left at Fly.
type CloseInput struct {
	Release  string                `json:"release"`
	Holder   string                `json:"holder,omitempty"` // description of the rollout's leases
	Machines []Leased              `json:"machines,omitempty"`
	Releases map[string]FlyRelease `json:"releases,omitempty"`
	Status   string                `json:"status"` // complete, failed, interrupted
	Error    string                `json:"error,omitempty"`
	// Commands are the Fly apps in which machines ran a command.
	Commands []string `json:"commands,omitempty"`
	// CommandMachines are the IDs, by Fly app, of machines that are known to have
	// run a command: a list of Fly's may be older than they are.
	CommandMachines map[string][]string `json:"command_machines,omitempty"`
	// Addresses are IP addresses to be released.
	Addresses map[string][]string `json:"addresses,omitempty"`
	// Begun are images by Fly app for which a Fly release may have been made, since
	// Since, that is not known: making it was given up.
	Begun map[string]release.Image `json:"begun,omitempty"`
	Since time.Time                `json:"since,omitzero"`
	// Woken are stops of machines that the rollout started for a verification and
	// did not stop again.
	Woken []StepInput `json:"woken,omitempty"`
}

// CloseRollout removes what a rollout left at Fly, as driver.CloseRollout does.
func (a *Activities) CloseRollout(ctx context.Context, in CloseInput) error {
	ctx, stop := a.begin(ctx)
	defer stop()
	closing := driver.Closing{
		Release: in.Release, Holder: in.Holder, Machines: in.Machines, Releases: in.Releases, Status: in.Status, Error: in.Error,
		Commands: in.Commands, CommandMachines: in.CommandMachines, Addresses: in.Addresses, Begun: in.Begun, Since: in.Since,
	}
	for _, step := range in.Woken {
		closing.Woken = append(closing.Woken, driver.Change(step))
	}
	return classify(ctx, a.driver().CloseRollout(ctx, closing))
}

package activities

import (
	"context"
	"time"

	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/release"
)

// CloseInput is how a rollout ended, and what may be left of it at Fly.
type CloseInput struct {
	Release  string                `json:"release"`
	Holder   string                `json:"holder,omitempty"` // description of the rollout's leases
	Machines []Leased              `json:"machines,omitempty"`
	Releases map[string]FlyRelease `json:"releases,omitempty"`
	Status   string                `json:"status"` // complete, failed, interrupted
	Error    string                `json:"error,omitempty"`
	// Commands are the Fly apps in which machines ran a command.
	Commands []string `json:"commands,omitempty"`
	// CommandMachines are the IDs, by Fly app, of machines that ran a command. Fly's
	// list may not have them yet.
	CommandMachines map[string][]string `json:"command_machines,omitempty"`
	// Addresses are the IP addresses to release.
	Addresses map[string][]string `json:"addresses,omitempty"`
	// Begun has, by Fly app, images for which a Fly release may exist since Since: its
	// create was canceled.
	Begun map[string]release.Image `json:"begun,omitempty"`
	Since time.Time                `json:"since,omitzero"`
	// VerificationStarts has stop steps of machines that the rollout started for
	// verification and did not stop.
	VerificationStarts []StepInput `json:"verification_starts,omitempty"`
}

// CloseRollout removes the remains of a rollout at Fly with driver.CloseRollout.
func (a *Activities) CloseRollout(ctx context.Context, in CloseInput) error {
	ctx, stop := a.beginAttempt(ctx)
	defer stop()
	closing := driver.Closing{
		Release: in.Release, Holder: in.Holder, Machines: in.Machines, Releases: in.Releases, Status: in.Status, Error: in.Error,
		Commands: in.Commands, CommandMachines: in.CommandMachines, Addresses: in.Addresses, Begun: in.Begun, Since: in.Since,
	}
	for _, step := range in.VerificationStarts {
		closing.Woken = append(closing.Woken, driver.Change(step))
	}
	return classifyError(ctx, a.driver().CloseRollout(ctx, closing))
}

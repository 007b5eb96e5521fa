package driver

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/machineconfig"
)

// A Driver observes and changes machines. It may be used concurrently.
type Driver struct {
	Fly  API
	Edge *http.Client  // sends probes; nil: a client for public addresses only
	Poll time.Duration // interval of reads while a driver waits; 0 is 1 s
	// Memory is shared by the drivers of one process; nil: each operation starts without.
	Memory *Memory
}

// Memory has the state that operations of one process share.
type Memory struct {
	checkTimes checkTimes
	keepers    keepers
	configs    machineconfig.Reader
}

func (d *Driver) memory() *Memory {
	if d.Memory == nil {
		return new(Memory)
	}
	return d.Memory
}

func (d *Driver) poll() time.Duration { return cmp.Or(d.Poll, time.Second) }

// API has all methods of Fly's API that a Driver uses, for wiring. *fly.Client
// implements it. Functions of the driver take the smaller interfaces below.
type API interface {
	TargetReader
	MachineChanger
	Cordoner
	LeaseAPI
	ReleaseAPI
	AddressAPI
	CreateVolume(ctx context.Context, app string, in fly.NewVolume) (fly.Volume, error)
	AllMachines(ctx context.Context, app string) ([]fly.Machine, error) // destroyed ones, too
	Wait(ctx context.Context, app, id string, w fly.Wait) error
	Logs(ctx context.Context, app, machine string) ([]fly.LogLine, error)
	Processes(ctx context.Context, app, id string) ([]fly.Process, error)
}

// A TargetReader reads the state of a Fly app.
type TargetReader interface {
	MachineLister
	MachineReader
	App(ctx context.Context, app string) (fly.App, error)
	Volumes(ctx context.Context, app string) ([]fly.Volume, error)
	Addresses(ctx context.Context, app string) ([]fly.Address, error)
	Secrets(ctx context.Context, app string) ([]fly.Secret, error)
}

// A MachineLister lists the machines of a Fly app, without destroyed ones.
type MachineLister interface {
	Machines(ctx context.Context, app string) ([]fly.Machine, error)
}

// A MachineReader reads one machine.
type MachineReader interface {
	Machine(ctx context.Context, app, id string) (fly.Machine, error)
}

// A MachineChanger creates, changes and destroys machines.
type MachineChanger interface {
	Create(ctx context.Context, app string, in fly.Create) (fly.Machine, error)
	Update(ctx context.Context, app, id string, in fly.Update) (fly.Machine, error)
	Start(ctx context.Context, app, id, nonce string) error
	Stop(ctx context.Context, app, id, nonce string) error
	Destroy(ctx context.Context, app, id, nonce string) error
}

// A Cordoner keeps Fly's proxy from sending traffic to a machine.
type Cordoner interface {
	Cordon(ctx context.Context, app, id, nonce string) error
	Uncordon(ctx context.Context, app, id, nonce string) error
}

// LeaseAPI takes, refreshes, reads and releases leases on machines.
type LeaseAPI interface {
	MachineReader
	TakeLease(ctx context.Context, app, id, description string, ttl time.Duration) (fly.Lease, error)
	Lease(ctx context.Context, app, id, nonce string, ttl time.Duration) (fly.Lease, error)
	ReadLease(ctx context.Context, app, id string) (fly.Lease, error)
	ReleaseLease(ctx context.Context, app, id, nonce string) error
}

// ReleaseAPI writes and reads Fly releases.
type ReleaseAPI interface {
	SecretsVersion(ctx context.Context, app string) (uint64, error)
	CreateRelease(ctx context.Context, in fly.NewRelease) (fly.FlyRelease, error)
	UpdateRelease(ctx context.Context, id, status, errText string) error
	Releases(ctx context.Context, app string) ([]fly.FlyRelease, error)
}

// AddressAPI reads, assigns and releases IP addresses.
type AddressAPI interface {
	Addresses(ctx context.Context, app string) ([]fly.Address, error)
	AssignAddress(ctx context.Context, app, kind string) (fly.Address, error)
	ReleaseAddress(ctx context.Context, app, ip string) error
}

package fly

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/microbima/release/internal/rawjson"
)

// A Volume is a disk in one region that one machine at a time mounts.
type Volume struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`  // not unique
	State           string    `json:"state"` // created; those of a volume about to go are in leavingStates
	SizeGB          int       `json:"size_gb"`
	Region          string    `json:"region"`
	Zone            string    `json:"zone"` // the hardware zone, if Fly sends it
	Encrypted       bool      `json:"encrypted"`
	AttachedMachine string    `json:"attached_machine_id"` // "" if none
	AttachedAlloc   string    `json:"attached_alloc_id"`   // from before machines existed; "" if none
	HostStatus      string    `json:"host_status"`         // ok, unknown, unreachable
	CreatedAt       time.Time `json:"created_at,omitzero"`
}

// leavingStates are the states of volumes that are about to be removed.
var leavingStates = []string{"scheduling_destroy", "fork_cleanup", "waiting_for_detach", "pending_destroy", "destroying", "destroyed"}

// Free reports whether a new machine may mount v: it is not attached, its host
// is reachable, and it is not about to be removed.
func (v Volume) Free() bool {
	return v.AttachedMachine == "" && v.AttachedAlloc == "" && v.HostStatus == "ok" && !slices.Contains(leavingStates, v.State)
}

// A NewVolume is the request for a volume. Fly's defaults: 3 GB, encrypted, a
// snapshot each day, kept for 5 days.
type NewVolume struct {
	Name      string `json:"name"`
	Region    string `json:"region,omitempty"`
	SizeGB    int    `json:"size_gb,omitempty"`
	Encrypted *bool  `json:"encrypted,omitempty"`
	Retention *int   `json:"snapshot_retention,omitempty"`  // days a snapshot is kept, 1 to 60
	Snapshots *bool  `json:"auto_backup_enabled,omitempty"` // daily ones
	// Guest, as in a machine config, and Image make Fly choose a host with
	// capacity for the machine.
	Guest json.RawMessage `json:"compute,omitempty"`
	Image string          `json:"compute_image,omitempty"`
}

// Volumes lists the volumes of app, sorted by ID, including those about to be
// removed.
func (c *Client) Volumes(ctx context.Context, app string) ([]Volume, error) {
	var all []Volume
	err := c.do(ctx, volumesCall("list volumes of "+app, http.MethodGet, app), &all)
	slices.SortFunc(all, func(a, b Volume) int { return cmp.Compare(a.ID, b.ID) })
	return all, err
}

// CreateVolume creates a volume. A second call creates a second one, and
// volumes cost money: after ErrUnknownOutcome look for a free one of that name
// first.
func (c *Client) CreateVolume(ctx context.Context, app string, in NewVolume) (Volume, error) {
	req := volumesCall("create volume "+in.Name+" in "+app, http.MethodPost, app)
	if len(in.Guest) > 0 && !json.Valid(in.Guest) {
		return Volume{}, &Error{Op: req.op, mutation: true, unsent: true, kind: ErrInvalid, cause: errors.New("the guest is not JSON")}
	}
	req.body = rawjson.MustMarshal(in)
	var v Volume
	if err := c.do(ctx, req, &v); err != nil {
		return Volume{}, err
	}
	if v.ID == "" {
		return Volume{}, missingField(req, "id")
	}
	return v, nil
}

// DestroyVolume removes a volume and its data. ErrPrecondition: it is attached
// to a machine. ErrNotFound: it is gone, perhaps because of an earlier call.
func (c *Client) DestroyVolume(ctx context.Context, app, id string) error {
	req := volumesCall("destroy volume "+id, http.MethodDelete, app)
	req.path = append(req.path, id)
	return c.do(ctx, req, nil)
}

func volumesCall(op, method, app string) call {
	return call{op: op, action: "volumes " + method, app: app, method: method, path: []string{"apps", app, "volumes"}}
}

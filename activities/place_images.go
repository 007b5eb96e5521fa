package activities

import (
	"context"

	"github.com/microbima/release/release"
)

// A Placing is an image, and the repository from which a target's machines should
// pull it, without the registry's host.
type Placing struct {
	Target     release.Target `json:"target"`
	Image      release.Image  `json:"image"`
	Repository string         `json:"repository"`
}

// PlaceInput are the images of one environment.
type PlaceInput struct {
	Images []Placing `json:"images"`
}

// Placed are the images of one environment, by app, in the repositories from which its
// machines pull them, and how many bytes were sent for that.
type Placed struct {
	Images release.Images `json:"images"`
	Bytes  int64          `json:"bytes,omitempty"`
}

// PlaceImages copies images, by digest, to the repositories from which the machines of
// an environment pull theirs: each Fly app runs an image of its own repository, which
// does not depend on that of staging. Blobs that are there already are not sent again.
func (a *Activities) PlaceImages(ctx context.Context, in PlaceInput) (Placed, error) {
	defer heartbeat(ctx)()
	placed := Placed{Images: release.Images{}}
	for _, p := range in.Images {
		placed.Images[p.Target.App] = p.Image
		if a.Images == nil {
			continue
		}
		copied, err := a.Images.Copy(ctx, p.Image, a.Registry+"/"+p.Repository)
		if err != nil {
			return placed, classify(ctx, err)
		}
		placed.Images[p.Target.App] = copied.Image
		placed.Bytes += copied.Bytes
	}
	return placed, nil
}

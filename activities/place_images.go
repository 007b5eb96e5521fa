package activities

import (
	"context"

	"github.com/microbima/release/release"
)

// An ImagePlacement is an image and the repository, without the registry's host, from
// which the machines of a target should pull it.
type ImagePlacement struct {
	Target     release.Target `json:"target"`
	Image      release.Image  `json:"image"`
	Repository string         `json:"repository"`
}

// PlaceInput has the images of one environment.
type PlaceInput struct {
	Images []ImagePlacement `json:"images"`
}

// PlacedImages has the images of one environment, by app, in the repositories from
// which its machines pull them, and the number of bytes that were sent.
type PlacedImages struct {
	Images release.Images `json:"images"`
	Bytes  int64          `json:"bytes,omitempty"`
}

// PlaceImages copies images, by digest, into the repositories from which the machines
// of an environment pull them. Each Fly app runs an image of its own repository, so
// that it does not depend on the one of staging. It sends only missing blobs.
func (a *Activities) PlaceImages(ctx context.Context, in PlaceInput) (PlacedImages, error) {
	defer startHeartbeat(ctx)()
	placed := PlacedImages{Images: release.Images{}}
	for _, p := range in.Images {
		placed.Images[p.Target.App] = p.Image
		if a.Images == nil {
			continue
		}
		copied, err := a.Images.Copy(ctx, p.Image, a.Registry+"/"+p.Repository)
		if err != nil {
			return placed, classifyError(ctx, err)
		}
		placed.Images[p.Target.App] = copied.Image
		placed.Bytes += copied.Bytes
	}
	return placed, nil
}

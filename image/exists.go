package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/release"
)

// Exists reports whether the registry has an image, by its digest. With an error
// the answer is unknown: ErrUnauthorized, for instance, or ErrReference for an
// image without a digest.
func (r *Registry) Exists(ctx context.Context, image release.Image) (bool, error) {
	ref, err := r.parseDigest(image)
	if err != nil {
		return false, err
	}
	_, err = remote.Head(ref, r.options(ctx)...)
	if err = registryError(err); errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up image %s: %w", image, err)
	}
	return true, nil
}

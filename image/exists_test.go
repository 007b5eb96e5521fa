package image_test

import (
	"errors"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// A rollback must know whether its image still exists, or that this is unknown.
func TestExists(t *testing.T) {
	_, repo := newGuardedRegistry(t)
	img, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	digest, ref := push(t, repo, img)
	loggedIn, anonymous := &image.Registry{Keychain: login{}}, &image.Registry{}
	if exists, err := loggedIn.Exists(t.Context(), ref); err != nil || !exists {
		t.Errorf("an image that was pushed: %t, %v", exists, err)
	}
	if exists, err := anonymous.Exists(t.Context(), ref); exists || !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("without a login: %t, %v", exists, err)
	}
	if exists, err := loggedIn.Exists(t.Context(), release.Image(repo.Name()+":v1")); exists || !errors.Is(err, image.ErrReference) {
		t.Errorf("without a digest: %t, %v", exists, err)
	}
	if err := remote.Delete(repo.Digest(digest.String()), remote.WithAuthFromKeychain(login{})); err != nil {
		t.Fatal(err)
	}
	if exists, err := loggedIn.Exists(t.Context(), ref); err != nil || exists {
		t.Errorf("an image that was deleted: %t, %v", exists, err)
	}
}

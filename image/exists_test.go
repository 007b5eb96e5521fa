package image_test

import (
	"errors"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
)

// Whether a rollback's image is still there is known, or said to be unknown.
func TestRegistry_Exists(t *testing.T) {
	_, repo := guardedShop(t)
	made, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	digest, ref := push(t, repo, made)
	known, stranger := &image.Registry{Keychain: login{}}, &image.Registry{}
	if there, err := known.Exists(t.Context(), ref); err != nil || !there {
		t.Errorf("an image that was pushed: %t, %v", there, err)
	}
	if there, err := stranger.Exists(t.Context(), ref); there || !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("without a login: %t, %v", there, err)
	}
	if there, err := known.Exists(t.Context(), release.Image(repo.Name()+":v1")); there || !errors.Is(err, image.ErrReference) {
		t.Errorf("without a digest: %t, %v", there, err)
	}
	if err := remote.Delete(repo.Digest(digest.String()), remote.WithAuthFromKeychain(login{})); err != nil {
		t.Fatal(err)
	}
	if there, err := known.Exists(t.Context(), ref); err != nil || there {
		t.Errorf("an image that was deleted: %t, %v", there, err)
	}
}

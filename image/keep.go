package image

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/release"
)

// A Keeper keeps registries from throwing images away that may have to run
// again: what no tag names may be collected. The zero value is ready.
type Keeper struct {
	Keychain authn.Keychain // logs in to registries; nil is Docker's own settings
	Insecure bool           // the registry may speak plain HTTP. One on loopback always may
}

// keepTag is the tag of a kept image, up to the first 12 digits of its digest.
const keepTag = "release-keep-"

// Keep puts the tag release-keep-<12 digits of its digest> on an image, in its
// own repository. It may be called again. ErrNotFound: it is too late.
// ErrUnauthorized: the login may not push to that repository.
func (k *Keeper) Keep(ctx context.Context, image release.Image) error {
	var naming []name.Option
	if k.Insecure {
		naming = append(naming, name.Insecure)
	}
	ref, err := name.NewDigest(string(image), naming...)
	if err != nil {
		return fmt.Errorf("image %q: %w; it should be host/name@sha256:…", image, err)
	}
	var options []remote.Option
	if k.Keychain != nil {
		options = append(options, remote.WithAuthFromKeychain(k.Keychain))
	}
	options = with(ctx, options)
	_, digits, _ := strings.Cut(ref.DigestStr(), ":")
	tag := ref.Context().Tag(keepTag + digits[:12])
	if kept, err := remote.Head(tag, options...); err == nil && kept.Digest.String() == ref.DigestStr() {
		return nil
	}
	desc, err := remote.Get(ref, options...)
	if err != nil {
		return fmt.Errorf("look up image %s: %w", image, said(err))
	}
	if err := remote.Tag(tag, desc, options...); err != nil {
		return fmt.Errorf("tag image %s as %s: %w", image, tag.TagStr(), said(err))
	}
	return nil
}

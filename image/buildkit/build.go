package buildkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/microbima/release/image"
)

// Build builds a Dockerfile and pushes the image, in an index that records what it
// was built from. The same content gives the same image at any revision and on any
// day, if the Dockerfile's steps are reproducible. A source that can't be built is
// an *image.BuildError.
func (b *Builder) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	repository, err := parseRepository(req)
	if err != nil {
		return image.Built{}, err
	}
	s, err := b.prepare(src, req)
	if err != nil {
		return image.Built{}, err
	}
	defer s.close()
	// A refused login is found before minutes of building.
	if err := b.checkPush(ctx, repository); err != nil {
		return image.Built{}, err
	}
	s.setExport(src, repository)
	b.setCache(ctx, s, repository)
	existing := b.existingBlobs(ctx, repository)
	response, err := s.run(ctx, b)
	if err != nil {
		if ctx.Err() != nil || errors.As(err, new(*image.BuildError)) {
			return image.Built{}, err
		}
		// The login may have expired during the build.
		return image.Built{}, cmp.Or(b.checkPush(ctx, repository), err)
	}
	pushed := repository.Digest(response[exptypes.ExporterImageDigestKey])
	built, err := image.ReadIndex(ctx, pushed, s.platform, b.options(ctx)...)
	if err != nil {
		return image.Built{}, fmt.Errorf("read the image that BuildKit pushed: %w", err)
	}
	built.Notes = append(built.Notes, s.notes...)
	if built.Bytes, err = b.countNewBytes(ctx, pushed, existing()); err != nil {
		return image.Built{}, fmt.Errorf("read the image that BuildKit pushed: %w", err)
	}
	s.log.println(fmt.Sprintf("pushed %s: %s that the registry did not have", built.Image, formatBytes(built.Bytes)))
	return built, nil
}

// Test builds a Dockerfile up to the recipe's build target and pushes nothing. Its
// errors are those of Build.
func (b *Builder) Test(ctx context.Context, src image.Source, req image.Request) error {
	s, err := b.prepare(src, req)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.run(ctx, b); err != nil {
		return err
	}
	if s.progress.allCached() {
		s.log.println("every step is in BuildKit's cache, from a run on the same files: nothing ran")
	}
	return nil
}

// setExport makes the solve push the image. The revision is in the annotations of
// the index around the image, so that the same content has the same image at every
// revision.
func (s *solve) setExport(src image.Source, repository name.Repository) {
	annotations := image.Annotations(s.req, src.Revision)
	if source := annotations[annotationSource]; source != "" {
		s.opt.FrontendAttrs["label:"+annotationSource] = source
	}
	// An attestation is as public as the image, and mode=max would contain the values
	// of build arguments, which may be private.
	s.opt.FrontendAttrs["attest:provenance"] = "mode=min,version=v1"
	attrs := map[string]string{
		"push":              "true",
		"oci-mediatypes":    "true",
		"rewrite-timestamp": "true",
		"registry.insecure": strconv.FormatBool(isInsecure(repository)),
	}
	for key, value := range annotations {
		attrs["annotation-index."+key] = value
	}
	if s.req.Tag == "" {
		attrs["name"], attrs["push-by-digest"] = repository.Name(), "true"
	} else {
		attrs["name"] = repository.Tag(s.req.Tag).Name()
	}
	s.opt.Exports = []client.ExportEntry{{Type: client.ExporterImage, Attrs: attrs}}
}

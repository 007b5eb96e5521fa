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

// Build carries out a Dockerfile and pushes the image, in an index that says
// what it was built from. The same content of a checkout gives the same image,
// whatever the revision and the day, as far as the steps of the Dockerfile do.
// A source that can't be built is an *image.BuildError.
func (b *Builder) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	repository, err := repositoryOf(req)
	if err != nil {
		return image.Built{}, err
	}
	s, err := b.prepare(src, req)
	if err != nil {
		return image.Built{}, err
	}
	defer s.close()
	// Before minutes of building, not after.
	if err := b.mayPush(ctx, repository); err != nil {
		return image.Built{}, err
	}
	s.export(src, repository)
	b.cache(ctx, s, repository)
	there := b.lying(ctx, repository)
	response, err := s.run(ctx, b)
	if err != nil {
		if ctx.Err() != nil || errors.As(err, new(*image.BuildError)) {
			return image.Built{}, err
		}
		// A login may end while something is built.
		return image.Built{}, cmp.Or(b.mayPush(ctx, repository), err)
	}
	pushed := repository.Digest(response[exptypes.ExporterImageDigestKey])
	built, err := image.ReadIndex(ctx, pushed, s.platform, b.options(ctx)...)
	if err != nil {
		return image.Built{}, fmt.Errorf("read back what BuildKit pushed: %w", err)
	}
	built.Notes = append(built.Notes, s.notes...)
	if built.Bytes, err = b.sent(ctx, pushed, there()); err != nil {
		return image.Built{}, fmt.Errorf("read back what BuildKit pushed: %w", err)
	}
	s.log.say(fmt.Sprintf("pushed %s: %s that the registry did not have", built.Image, bytesText(built.Bytes)))
	return built, nil
}

// Test carries out a Dockerfile, up to the recipe's build target, and keeps
// nothing of it but what BuildKit caches. It fails as Build does.
func (b *Builder) Test(ctx context.Context, src image.Source, req image.Request) error {
	s, err := b.prepare(src, req)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.run(ctx, b); err != nil {
		return err
	}
	if s.seen.cached() {
		s.log.say("every step was carried out before, on the same files: BuildKit kept what came of it, and nothing ran")
	}
	return nil
}

// export has the image pushed. What is said of the revision stands on the index
// around it, which no machine runs: the image itself is the same at every
// revision of the same content.
func (s *solve) export(src image.Source, repository name.Repository) {
	about := image.Annotations(s.req, src.Revision)
	if source := about[annotationSource]; source != "" {
		s.opt.FrontendAttrs["label:"+annotationSource] = source
	}
	// Arguments may be private, and an attestation is as public as the image:
	// min leaves out their values, max would not.
	s.opt.FrontendAttrs["attest:provenance"] = "mode=min,version=v1"
	attrs := map[string]string{
		"push":              "true",
		"oci-mediatypes":    "true",
		"rewrite-timestamp": "true",
		"registry.insecure": strconv.FormatBool(insecure(repository)),
	}
	for key, value := range about {
		attrs["annotation-index."+key] = value
	}
	if s.req.Tag == "" {
		attrs["name"], attrs["push-by-digest"] = repository.Name(), "true"
	} else {
		attrs["name"] = repository.Tag(s.req.Tag).Name()
	}
	s.opt.Exports = []client.ExportEntry{{Type: client.ExporterImage, Attrs: attrs}}
}

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/release"
)

// Annotations are those of the index that is pushed for a build: the full
// commit, where it was fetched from unless only this machine could, when it was
// made, and the recipe's hash.
func Annotations(req Request, r release.Revision) map[string]string {
	about := map[string]string{"org.opencontainers.image.revision": r.Commit, "release.recipe": req.Recipe.Hash()}
	if u, err := url.Parse(req.Origin); err == nil && (u.Scheme == "https" || u.Scheme == "http" || u.Scheme == "ssh") {
		u.User = nil
		about["org.opencontainers.image.source"] = u.String()
	}
	if !r.Time.IsZero() {
		about["org.opencontainers.image.created"] = r.Time.UTC().Format(time.RFC3339)
	}
	return about
}

// ReadIndex is what lies under ref for one platform, os/architecture, in an
// index as a build pushes it. ErrPlatform: it is for other platforms.
func ReadIndex(ctx context.Context, ref name.Reference, platform string, options ...remote.Option) (Built, error) {
	index, err := remote.Index(ref, with(ctx, options)...)
	if err != nil {
		return Built{}, fmt.Errorf("look up image %s: %w", ref, said(err))
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return Built{}, err
	}
	var built Built
	var attestation v1.Hash
	for _, d := range manifest.Manifests {
		switch {
		case d.Annotations["vnd.docker.reference.type"] == "attestation-manifest":
			attestation = d.Digest
		case d.Platform != nil && d.Platform.OS+"/"+d.Platform.Architecture == platform:
			built.Image = pin(ref.Context(), d.Digest.String())
		}
	}
	if built.Image == "" {
		return Built{}, fmt.Errorf("image %s: %w", ref, ErrPlatform)
	}
	if attestation.Hex == "" {
		return built, nil
	}
	statement, err := index.Image(attestation)
	if err != nil {
		return built, err
	}
	layers, err := statement.Layers()
	if err != nil || len(layers) == 0 {
		return built, err
	}
	body, err := layers[0].Uncompressed()
	if err != nil {
		return built, err
	}
	defer body.Close()
	var said struct {
		PredicateType string
		Predicate     struct {
			BuildDefinition struct {
				ResolvedDependencies []struct {
					URI    string
					Digest map[string]string
				}
			}
			RunDetails struct {
				Builder  struct{ ID string }
				Metadata struct{ StartedOn, FinishedOn time.Time }
			}
		}
	}
	if err := json.NewDecoder(body).Decode(&said); err != nil {
		return built, err
	}
	run := said.Predicate.RunDetails
	built.Provenance = &release.Provenance{Builder: run.Builder.ID, Type: said.PredicateType, Started: run.Metadata.StartedOn, Finished: run.Metadata.FinishedOn}
	for _, m := range said.Predicate.BuildDefinition.ResolvedDependencies {
		var digests []string
		for kind, digits := range m.Digest {
			digests = append(digests, kind+":"+digits)
		}
		built.Provenance.Materials = append(built.Provenance.Materials, release.Material{URI: m.URI, Digest: strings.Join(digests, " ")})
	}
	return built, nil
}

package image

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/microbima/release/release"
)

const (
	// maxStatement is the largest size of a statement in bytes. It is enough for
	// BuildKit's provenance with mode=max, which lists every step.
	maxStatement = 32 << 20
	// maxMaterials limits the materials of one image in a release's history.
	maxMaterials = 200
)

// An attestationError is a permanent error: the attestation can't be parsed.
type attestationError struct{ reason string }

func (e *attestationError) Error() string {
	return "can't read the attestation of the image: " + e.reason
}

// A statement is an in-toto statement with a SLSA provenance of either version.
type statement struct {
	PredicateType string `json:"predicateType"`
	Predicate     struct {
		// https://slsa.dev/provenance/v0.2
		Builder   builder    `json:"builder"`
		Materials []material `json:"materials"`
		Metadata  struct {
			Started  time.Time `json:"buildStartedOn"`
			Finished time.Time `json:"buildFinishedOn"`
		} `json:"metadata"`
		// https://slsa.dev/provenance/v1
		BuildDefinition struct {
			Dependencies []material `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Builder  builder `json:"builder"`
			Metadata struct {
				Started  time.Time `json:"startedOn"`
				Finished time.Time `json:"finishedOn"`
			} `json:"metadata"`
		} `json:"runDetails"`
	} `json:"predicate"`
}

type builder struct {
	ID string `json:"id"`
}

type material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"` // algorithm → hex
}

// provenance reads BuildKit's provenance of the image. It returns nil if there is
// only another attestation, such as an SBOM, and an *attestationError for one that
// can't be parsed.
func (f foundImage) provenance(ctx context.Context) (*release.Provenance, error) {
	if f.attestation.Size > maxDocument {
		return nil, &attestationError{fmt.Sprintf("its manifest has %d bytes", f.attestation.Size)}
	}
	desc, err := f.registry.Get(ctx, f.image.Context().Digest(f.attestation.Digest.String()))
	if err != nil {
		return nil, fmt.Errorf("attestation of image %s: %w", f.image, registryError(err))
	}
	var manifest v1.Manifest
	if err := json.Unmarshal(desc.Manifest, &manifest); err != nil {
		return nil, &attestationError{err.Error()}
	}
	for _, layer := range manifest.Layers {
		switch layer.Annotations["in-toto.io/predicate-type"] {
		case "https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1":
			return f.readStatement(ctx, layer)
		}
	}
	return nil, nil
}

func (f foundImage) readStatement(ctx context.Context, d v1.Descriptor) (*release.Provenance, error) {
	if d.Size > maxStatement {
		return nil, &attestationError{fmt.Sprintf("its provenance has %d bytes", d.Size)}
	}
	layer, err := f.registry.Layer(ctx, f.image.Context().Digest(d.Digest.String()))
	if err != nil {
		return nil, fmt.Errorf("provenance of image %s: %w", f.image, registryError(err))
	}
	blob, err := layer.Compressed() // checks the digest; the statement is not compressed
	if err != nil {
		return nil, fmt.Errorf("provenance of image %s: %w", f.image, registryError(err))
	}
	defer blob.Close()
	doc, err := io.ReadAll(io.LimitReader(blob, maxStatement))
	if err != nil {
		return nil, fmt.Errorf("provenance of image %s: %w", f.image, err)
	}
	var s statement
	if err := json.Unmarshal(doc, &s); err != nil {
		return nil, &attestationError{err.Error()}
	}
	return s.provenance(), nil
}

func (s statement) provenance() *release.Provenance {
	p, run := s.Predicate, s.Predicate.RunDetails
	out := &release.Provenance{
		Builder: cmp.Or(run.Builder.ID, p.Builder.ID), Type: s.PredicateType,
		Started:  cmp.Or(run.Metadata.Started, p.Metadata.Started),
		Finished: cmp.Or(run.Metadata.Finished, p.Metadata.Finished),
	}
	for _, m := range append(p.Materials, p.BuildDefinition.Dependencies...) {
		if len(out.Materials) == maxMaterials {
			break
		}
		out.Materials = append(out.Materials, release.Material{URI: stripLogin(m.URI), Digest: m.strongestDigest()})
	}
	return out
}

// stripLogin returns an address without the user and the password.
func stripLogin(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.User == nil {
		return uri
	}
	u.User = nil
	return u.String()
}

// strongestDigest returns the sha256 digest, or another one if there is none: git
// has only sha1.
func (m material) strongestDigest() string {
	algorithms := slices.Sorted(maps.Keys(m.Digest))
	if len(algorithms) == 0 {
		return ""
	}
	algorithm := algorithms[0]
	if _, ok := m.Digest["sha256"]; ok {
		algorithm = "sha256"
	}
	return algorithm + ":" + m.Digest[algorithm]
}

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
	// maxStatement is more than BuildKit has to say even of a build whose steps
	// it tells one by one (provenance with mode=max).
	maxStatement = 32 << 20
	// maxMaterials is as many as a release's history is to hold for one image.
	maxMaterials = 200
)

// An oddAttestation is one that says nothing that could be understood.
type oddAttestation struct{ why string }

func (e *oddAttestation) Error() string { return "what is attested of the image is not read: " + e.why }

// A statement is in-toto's, with SLSA's provenance of either version in it.
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

// provenance reads what BuildKit attests of the image; nil if that is something
// else, an SBOM for instance. It fails with an *oddAttestation where reading
// again would end the same way.
func (l listing) provenance(ctx context.Context) (*release.Provenance, error) {
	if l.attestation.Size > maxDocument {
		return nil, &oddAttestation{fmt.Sprintf("its manifest has %d bytes", l.attestation.Size)}
	}
	there, err := l.registry.Get(ctx, l.image.Context().Digest(l.attestation.Digest.String()))
	if err != nil {
		return nil, fmt.Errorf("attestation of image %s: %w", l.image, said(err))
	}
	var manifest v1.Manifest
	if err := json.Unmarshal(there.Manifest, &manifest); err != nil {
		return nil, &oddAttestation{err.Error()}
	}
	for _, layer := range manifest.Layers {
		switch layer.Annotations["in-toto.io/predicate-type"] {
		case "https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1":
			return l.statement(ctx, layer)
		}
	}
	return nil, nil
}

func (l listing) statement(ctx context.Context, at v1.Descriptor) (*release.Provenance, error) {
	if at.Size > maxStatement {
		return nil, &oddAttestation{fmt.Sprintf("its provenance has %d bytes", at.Size)}
	}
	layer, err := l.registry.Layer(ctx, l.image.Context().Digest(at.Digest.String()))
	if err != nil {
		return nil, fmt.Errorf("provenance of image %s: %w", l.image, said(err))
	}
	blob, err := layer.Compressed() // it is not, and its digest is checked
	if err != nil {
		return nil, fmt.Errorf("provenance of image %s: %w", l.image, said(err))
	}
	defer blob.Close()
	doc, err := io.ReadAll(io.LimitReader(blob, maxStatement))
	if err != nil {
		return nil, fmt.Errorf("provenance of image %s: %w", l.image, err)
	}
	var s statement
	if err := json.Unmarshal(doc, &s); err != nil {
		return nil, &oddAttestation{err.Error()}
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
		out.Materials = append(out.Materials, release.Material{URI: loginless(m.URI), Digest: m.digest()})
	}
	return out
}

// loginless is the address of a repository without its password.
func loginless(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.User == nil {
		return uri
	}
	u.User = nil
	return u.String()
}

// digest is the strongest that there is: sha256, where git has only sha1.
func (m material) digest() string {
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

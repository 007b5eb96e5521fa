package image

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	"github.com/microbima/release/release"
)

const (
	maxReported = 20       // findings in a report
	maxFindings = 10_000   // findings in memory
	maxLayer    = 32 << 30 // bytes of an unpacked layer: a layer of some kB can claim any size
	maxClean    = 10_000   // entries of Registry.clean, of 32 bytes each
)

// Secrets returns the secrets in an image, as "path: kind": private keys, env files,
// and places with one of the tokens, including the image's config. Tokens of less
// than 12 bytes are not searched for. A file that a later layer removes is
// reported, because its layer can still be pulled. Files that match a pattern of
// allow (tests/**/*.pem, or a folder) are searched for tokens only. Of more than 20
// secrets, the last entry is their number.
//
// A layer without secrets is not read again by the same Registry.
func (r *Registry) Secrets(ctx context.Context, ref release.Image, tokens, allow []string) ([]string, error) {
	digest, err := r.parseDigest(ref)
	if err != nil {
		return nil, err
	}
	s, err := newSearch(ref, tokens, allow)
	if err != nil {
		return nil, err
	}
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(2) // unpacking takes CPU time from builds on this worker
	img, err := getImage(digest, r.options(groupCtx))
	if err != nil {
		return nil, err
	}
	config, err := readConfig(digest, img)
	if err != nil {
		return nil, err
	}
	s.searchConfig(config)
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("layers of image %s: %w", ref, err)
	}
	for _, layer := range layers {
		g.Go(func() error { return r.searchLayer(groupCtx, s, layer) })
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("search for secrets in image %s: %w", ref, registryError(err))
	}
	return s.report(), nil
}

// getImage returns the image at ref. It fetches only the manifest.
func getImage(ref name.Digest, options []remote.Option) (v1.Image, error) {
	desc, err := remote.Get(ref, options...)
	if err != nil {
		return nil, fmt.Errorf("look up image %s: %w", ref, registryError(err))
	}
	img, err := desc.Image()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, registryError(err))
	}
	return img, nil
}

// searchLayer searches a layer, unless it is known to have no secrets.
func (r *Registry) searchLayer(ctx context.Context, s *search, layer v1.Layer) error {
	digest, err := layer.Digest()
	if err != nil {
		return err
	}
	key := sha256.Sum256(append(s.key[:], digest.String()...))
	r.mu.Lock()
	isClean := r.clean[key]
	r.mu.Unlock()
	if isClean {
		return nil
	}
	clean, err := s.searchLayer(ctx, digest, layer)
	if err != nil || !clean {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clean == nil || len(r.clean) >= maxClean {
		r.clean = map[[32]byte]bool{}
	}
	r.clean[key] = true
	return nil
}

// A search searches one image for secrets.
type search struct {
	tokens  tokenPatterns
	allow   []string
	key     [32]byte // hash of the tokens and of allow
	maxRead int64    // bytes of files that are read of a layer

	mu       sync.Mutex
	findings []string
	more     int // findings that were not stored
}

func newSearch(ref release.Image, tokens, allow []string) (*search, error) {
	for _, pattern := range allow {
		if !doublestar.ValidatePattern(pattern) {
			return nil, &BuildError{Name: string(ref), Reason: fmt.Sprintf("allow at [scan] in release.toml: %q is not a path pattern; must be like tests/**/*.pem", pattern)}
		}
	}
	doc, err := json.Marshal([][]string{tokens, allow})
	return &search{tokens: newTokenPatterns(tokens), allow: allow, maxRead: maxLayer, key: sha256.Sum256(doc)}, err
}

// addFinding adds a secret of the given kind.
func (s *search) addFinding(place, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.findings) >= maxFindings {
		s.more++
		return
	}
	s.findings = append(s.findings, s.printablePlace(place)+": "+kind)
}

// printablePlace returns a place as one short line without tokens.
func (s *search) printablePlace(place string) string {
	const maxLength = 200
	switch {
	case s.tokens.match([]byte(place)):
		return "the name of a file"
	case len(place) > maxLength:
		place = "…" + place[len(place)-maxLength:]
	}
	if strings.ContainsFunc(place, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(place)
	}
	return place
}

// report returns the findings, sorted and at most maxReported of them.
func (s *search) report() []string {
	slices.Sort(s.findings)
	found := slices.Compact(s.findings)
	if more := len(found) - maxReported + s.more; more > 0 && len(found) > maxReported {
		return append(found[:maxReported:maxReported], fmt.Sprintf("… and %d more", more))
	}
	return found
}

// searchConfig searches an image's config. Its history contains build arguments.
func (s *search) searchConfig(c *v1.ConfigFile) {
	searchText := func(place, text string) {
		if kind := s.findInText([]byte(text)); kind != "" {
			s.addFinding(place, kind)
		}
	}
	for _, entry := range c.Config.Env {
		name, value, _ := strings.Cut(entry, "=")
		searchText("env var "+name, value)
	}
	for name, value := range c.Config.Labels {
		searchText("label "+name, value)
	}
	for i, step := range c.History {
		searchText(fmt.Sprintf("step %d of its history", i+1), step.CreatedBy+"\n"+step.Comment)
	}
	rest := c.DeepCopy()
	rest.Config.Env, rest.Config.Labels, rest.History = nil, nil, nil
	if doc, err := json.Marshal(rest); err == nil {
		searchText("its config", string(doc))
	}
}

// searchLayer searches the files of a layer, and reports whether it has no secrets.
func (s *search) searchLayer(ctx context.Context, digest v1.Hash, layer v1.Layer) (clean bool, err error) {
	unpacked, err := layer.Uncompressed()
	if err == nil {
		defer unpacked.Close()
		l := &layerSearch{search: s, files: tar.NewReader(unpacked), buffer: make([]byte, 256<<10), clean: true}
		if err = l.run(ctx); err == nil {
			_, err = io.Copy(io.Discard, io.LimitReader(unpacked, maxLayer)) // the digest is checked at the end
		}
		clean = l.clean
	}
	var unsearchable unsearchableError
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.As(err, &unsearchable):
		s.addFinding("layer "+digest.String(), string(unsearchable))
		return false, nil
	case errors.Is(err, tar.ErrHeader), errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		s.addFinding("layer "+digest.String(), "it is not an archive of files and can't be searched")
		return false, nil
	}
	return clean, err
}

// An unsearchableError is the reason why a layer is not searched to its end.
type unsearchableError string

func (e unsearchableError) Error() string { return string(e) }

// A layerSearch searches one layer.
type layerSearch struct {
	*search
	files  *tar.Reader
	buffer []byte
	read   int64 // bytes of files so far
	clean  bool  // no secret was found so far
}

func (l *layerSearch) run(ctx context.Context) error {
	for ctx.Err() == nil {
		h, err := l.files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		file := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		kind := ""
		if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse {
			if kind, err = l.searchFile(ctx, file, h.Size); err != nil {
				return err
			}
		}
		if kind == "" && (l.tokens.match([]byte(h.Name)) || l.tokens.match([]byte(h.Linkname))) {
			kind = foundToken
		}
		if kind != "" {
			l.addFinding(file, kind)
			l.clean = false
		}
	}
	return context.Cause(ctx)
}

// searchFile returns the kind of secret in the next file of the layer, or "".
func (l *layerSearch) searchFile(ctx context.Context, file string, size int64) (kind string, err error) {
	allowed := isAllowed(l.allow, file)
	if isEnvFile(file) && size > 0 && !allowed {
		kind = "env vars"
	}
	overlap := 0 // bytes kept of the last chunk: a token may begin in one and end in the next
	for first := true; ctx.Err() == nil; first = false {
		n, err := readFull(l.files, l.buffer[overlap:])
		chunk := l.buffer[:overlap+n]
		if l.tokens.match(chunk) {
			return foundToken, nil
		}
		if first && !allowed && hasPrivateKey(chunk) {
			kind = foundKey
		}
		if l.read += int64(n); l.read > l.maxRead {
			return "", unsearchableError(fmt.Sprintf("it has more than %d bytes of files, and is not read to its end", l.maxRead))
		}
		if errors.Is(err, io.EOF) {
			return kind, nil
		}
		if err != nil {
			return "", err
		}
		overlap = copy(l.buffer, chunk[len(chunk)-min(len(chunk), max(0, l.tokens.longest-1)):])
	}
	return "", context.Cause(ctx)
}

// readFull reads until b is full. Unlike io.ReadFull it returns the reader's error
// unchanged, which tells the end of a file from that of a truncated archive.
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var more int
		more, err = r.Read(b[n:])
		n += more
	}
	return n, err
}

// isAllowed reports whether a file, or a folder that it is in, matches a pattern.
func isAllowed(patterns []string, file string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		pattern = strings.Trim(pattern, "/")
		return doublestar.MatchUnvalidated(pattern, file) || doublestar.MatchUnvalidated(pattern+"/**", file)
	})
}

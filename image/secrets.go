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
	maxFound = 20       // as many as somebody wants to read
	maxNoted = 10_000   // as many as are sorted for that
	maxLayer = 32 << 30 // bytes unpacked: no machine has room for more, but a layer of some kB can claim to
	maxClean = 10_000   // layers that are remembered: 32 bytes each
)

// Secrets are the files in an image that nobody should get hold of who may pull
// it, as "path: what it is": private keys, env files, and whatever holds one of
// tokens, in the image's config, too. Tokens of less than 12 bytes are not looked
// for. A file that a later layer removes counts: its layer can be pulled all the
// same. At patterns of allow (tests/**/*.pem, or a folder) all but tokens may be.
// Of many, the last entry says how many more there are.
//
// A layer is read once: the same value takes one for clean that it found clean.
func (r *Registry) Secrets(ctx context.Context, ref release.Image, tokens, allow []string) ([]string, error) {
	at, err := r.digest(ref)
	if err != nil {
		return nil, err
	}
	s, err := newSearch(ref, tokens, allow)
	if err != nil {
		return nil, err
	}
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(2) // unpacking is work, and others build here
	img, err := imageAt(at, r.options(all))
	if err != nil {
		return nil, err
	}
	config, err := configOf(at, img)
	if err != nil {
		return nil, err
	}
	s.config(config)
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("layers of image %s: %w", ref, err)
	}
	for _, layer := range layers {
		g.Go(func() error { return r.searchLayer(all, s, layer) })
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("look for secrets in image %s: %w", ref, said(err))
	}
	return s.report(), nil
}

// imageAt is the one under ref, of which nothing but the manifest is fetched yet.
func imageAt(ref name.Digest, options []remote.Option) (v1.Image, error) {
	there, err := remote.Get(ref, options...)
	if err != nil {
		return nil, fmt.Errorf("look up image %s: %w", ref, said(err))
	}
	img, err := there.Image()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, said(err))
	}
	return img, nil
}

// searchLayer searches a layer, unless it is known to be clean.
func (r *Registry) searchLayer(ctx context.Context, s *search, layer v1.Layer) error {
	digest, err := layer.Digest()
	if err != nil {
		return err
	}
	key := sha256.Sum256(append(s.key[:], digest.String()...))
	r.mu.Lock()
	known := r.clean[key]
	r.mu.Unlock()
	if known {
		return nil
	}
	clean, err := s.layer(ctx, digest, layer)
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

// A search is for secrets in one image.
type search struct {
	needles needles
	allow   []string
	key     [32]byte // of what is searched for
	most    int64    // bytes of files in a layer that are read

	mu    sync.Mutex
	found []string
	more  int
}

func newSearch(ref release.Image, tokens, allow []string) (*search, error) {
	for _, pattern := range allow {
		if !doublestar.ValidatePattern(pattern) {
			return nil, &BuildError{Name: string(ref), Reason: fmt.Sprintf("allow at [scan] in release.toml: %q is no pattern of paths; it should be as tests/**/*.pem", pattern)}
		}
	}
	doc, err := json.Marshal([][]string{tokens, allow})
	return &search{needles: newNeedles(tokens), allow: allow, most: maxLayer, key: sha256.Sum256(doc)}, err
}

// note adds what was found.
func (s *search) note(where, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.found) >= maxNoted {
		s.more++
		return
	}
	s.found = append(s.found, s.printable(where)+": "+what)
}

// printable is a path as it can be shown in a line, without a token in it.
func (s *search) printable(where string) string {
	const longest = 200
	switch {
	case s.needles.in([]byte(where)):
		return "the name of a file"
	case len(where) > longest:
		where = "…" + where[len(where)-longest:]
	}
	if strings.ContainsFunc(where, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(where)
	}
	return where
}

// report is what was found, in order.
func (s *search) report() []string {
	slices.Sort(s.found)
	found := slices.Compact(s.found)
	if more := len(found) - maxFound + s.more; more > 0 && len(found) > maxFound {
		return append(found[:maxFound:maxFound], fmt.Sprintf("… and %d more", more))
	}
	return found
}

// config searches what an image says of itself: build arguments are in its
// history.
func (s *search) config(c *v1.ConfigFile) {
	look := func(where, text string) {
		if what := s.inText([]byte(text)); what != "" {
			s.note(where, what)
		}
	}
	for _, entry := range c.Config.Env {
		name, value, _ := strings.Cut(entry, "=")
		look("env var "+name, value)
	}
	for name, value := range c.Config.Labels {
		look("label "+name, value)
	}
	for i, step := range c.History {
		look(fmt.Sprintf("step %d of its history", i+1), step.CreatedBy+"\n"+step.Comment)
	}
	rest := c.DeepCopy()
	rest.Config.Env, rest.Config.Labels, rest.History = nil, nil, nil
	if doc, err := json.Marshal(rest); err == nil {
		look("its config", string(doc))
	}
}

// layer searches the files of a layer, and says whether there was nothing.
func (s *search) layer(ctx context.Context, digest v1.Hash, layer v1.Layer) (clean bool, err error) {
	unpacked, err := layer.Uncompressed()
	if err == nil {
		defer unpacked.Close()
		l := &layerSearch{search: s, files: tar.NewReader(unpacked), buffer: make([]byte, 256<<10), clean: true}
		if err = l.run(ctx); err == nil {
			_, err = io.Copy(io.Discard, io.LimitReader(unpacked, maxLayer)) // to its end, where its digest is checked
		}
		clean = l.clean
	}
	var odd oddLayer
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.As(err, &odd):
		s.note("layer "+digest.String(), string(odd))
		return false, nil
	case errors.Is(err, tar.ErrHeader), errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		s.note("layer "+digest.String(), "it is no archive of files, so nobody knows what is in it")
		return false, nil
	}
	return clean, err
}

// An oddLayer is why a layer is not searched to its end.
type oddLayer string

func (o oddLayer) Error() string { return string(o) }

// A layerSearch is a search of one layer.
type layerSearch struct {
	*search
	files  *tar.Reader
	buffer []byte
	read   int64
	clean  bool
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
		where := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		what := ""
		if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse {
			if what, err = l.file(ctx, where, h.Size); err != nil {
				return err
			}
		}
		if what == "" && (l.needles.in([]byte(h.Name)) || l.needles.in([]byte(h.Linkname))) {
			what = aToken
		}
		if what != "" {
			l.note(where, what)
			l.clean = false
		}
	}
	return context.Cause(ctx)
}

// file says what is wrong with the next file, or "".
func (l *layerSearch) file(ctx context.Context, where string, size int64) (what string, err error) {
	allowed := allows(l.allow, where)
	if isEnvFile(where) && size > 0 && !allowed {
		what = "env vars"
	}
	kept := 0 // bytes of the last piece: a token may begin in one and end in the next
	for first := true; ctx.Err() == nil; first = false {
		n, err := fill(l.files, l.buffer[kept:])
		piece := l.buffer[:kept+n]
		if l.needles.in(piece) {
			return aToken, nil
		}
		if first && !allowed && hasPrivateKey(piece) {
			what = aKey
		}
		if l.read += int64(n); l.read > l.most {
			return "", oddLayer(fmt.Sprintf("it has more than %d bytes of files, and is not read to its end", l.most))
		}
		if errors.Is(err, io.EOF) {
			return what, nil
		}
		if err != nil {
			return "", err
		}
		kept = copy(l.buffer, piece[len(piece)-min(len(piece), max(0, l.needles.longest-1)):])
	}
	return "", context.Cause(ctx)
}

// fill reads until b is full. An error is the reader's own, so that the end of a
// file is not that of an archive that is cut off.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var more int
		more, err = r.Read(b[n:])
		n += more
	}
	return n, err
}

// allows says whether a path, or a folder that it is in, matches a pattern.
func allows(patterns []string, where string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		pattern = strings.Trim(pattern, "/")
		return doublestar.MatchUnvalidated(pattern, where) || doublestar.MatchUnvalidated(pattern+"/**", where)
	})
}

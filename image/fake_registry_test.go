package image

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A fakeRegistry behaves like the large registries, unlike go-containerregistry's:
// each repository has its own blobs, mounts those of another one on request, and
// refuses a manifest whose blobs it lacks. It records requests and counts the bytes
// of blobs that it receives.
type fakeRegistry struct {
	*httptest.Server
	inner   http.Handler
	noMount bool

	mu       sync.Mutex
	blobs    map[string]map[v1.Hash][]byte // repository → digest → bytes
	requests []string                      // method and kind: "HEAD manifests"
	received int64                         // bytes of blobs
	mounted  int                           // blobs
}

func newFakeRegistry(t *testing.T) *fakeRegistry {
	t.Helper()
	s := &fakeRegistry{blobs: map[string]map[v1.Hash][]byte{}}
	s.inner = registry.New(registry.WithBlobHandler(s), registry.Logger(log.New(io.Discard, "", 0)))
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// repository returns the repository of a name.
func (s *fakeRegistry) repository(t *testing.T, path string) name.Repository {
	t.Helper()
	r, err := name.NewRepository(strings.TrimPrefix(s.URL, "http://") + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// resetCounts clears the requests and counters.
func (s *fakeRegistry) resetCounts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.received, s.mounted = nil, 0, 0
}

// requestCount returns the number of requests, since resetCounts, that begin with a
// prefix.
func (s *fakeRegistry) requestCount(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, request := range s.requests {
		if strings.HasPrefix(request, prefix) {
			n++
		}
	}
	return n
}

func (s *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) > 3 {
		s.mu.Lock()
		kind := parts[len(parts)-2]
		if parts[len(parts)-1] == "uploads" || kind == "uploads" {
			kind = "blobs"
		}
		s.requests = append(s.requests, r.Method+" "+kind)
		s.mu.Unlock()
	}
	switch {
	case r.Method == http.MethodPost && r.URL.Query().Get("mount") != "" && s.mount(parts[1], r):
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut && parts[len(parts)-2] == "manifests" && !s.hasBlobs(parts[1], r):
		http.Error(w, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`, http.StatusBadRequest)
	default:
		s.inner.ServeHTTP(w, r)
	}
}

func (s *fakeRegistry) mount(to string, r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	digest, _ := v1.NewHash(r.URL.Query().Get("mount"))
	blob, ok := s.blobs[r.URL.Query().Get("from")][digest]
	if !ok || s.noMount {
		return false
	}
	s.putBlob(to, digest, blob)
	s.mounted++
	return true
}

// hasBlobs reports whether the repository has all blobs that the pushed manifest
// names.
func (s *fakeRegistry) hasBlobs(repository string, r *http.Request) bool {
	raw, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(raw))
	var m v1.Manifest
	if json.Unmarshal(raw, &m) != nil || m.MediaType.IsIndex() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range append(m.Layers, m.Config) {
		if _, ok := s.blobs[repository][d.Digest]; !ok {
			return false
		}
	}
	return true
}

func (s *fakeRegistry) putBlob(repository string, digest v1.Hash, blob []byte) {
	if s.blobs[repository] == nil {
		s.blobs[repository] = map[v1.Hash][]byte{}
	}
	s.blobs[repository][digest] = blob
}

// Get implements registry.BlobHandler.
func (s *fakeRegistry) Get(_ context.Context, repository string, digest v1.Hash) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blob, ok := s.blobs[repository][digest]
	if !ok {
		return nil, registry.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(blob)), nil
}

// Stat implements registry.BlobStatHandler.
func (s *fakeRegistry) Stat(_ context.Context, repository string, digest v1.Hash) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blob, ok := s.blobs[repository][digest]
	if !ok {
		return 0, registry.ErrNotFound
	}
	return int64(len(blob)), nil
}

// Put implements registry.BlobPutHandler.
func (s *fakeRegistry) Put(_ context.Context, repository string, digest v1.Hash, r io.ReadCloser) error {
	blob, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putBlob(strings.TrimSuffix(repository, "/blobs"), digest, blob) // the handler adds this suffix in uploads
	s.received += int64(len(blob))
	return nil
}

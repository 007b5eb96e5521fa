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

// Shelves are a registry as the large ones are, and go-containerregistry's is
// not: each repository has blobs of its own, takes those of another over when it
// is asked to, and refuses a manifest whose blobs it does not have. It notes what
// it is asked, and how many bytes of blobs it is sent.
type shelves struct {
	*httptest.Server
	inner   http.Handler
	noMount bool

	mu    sync.Mutex
	blobs map[string]map[v1.Hash][]byte // repository → digest → bytes
	asked []string                      // "HEAD manifests"
	sent  int64
	taken int // over from another repository
}

func openShelves(t *testing.T) *shelves {
	t.Helper()
	s := &shelves{blobs: map[string]map[v1.Hash][]byte{}}
	s.inner = registry.New(registry.WithBlobHandler(s), registry.Logger(log.New(io.Discard, "", 0)))
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// repository is one of that name.
func (s *shelves) repository(t *testing.T, path string) name.Repository {
	t.Helper()
	r, err := name.NewRepository(strings.TrimPrefix(s.URL, "http://") + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// forget begins the counts anew.
func (s *shelves) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.sent, s.taken = nil, 0, 0
}

// wasAsked is how often it was since then.
func (s *shelves) wasAsked(what string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if strings.HasPrefix(a, what) {
			n++
		}
	}
	return n
}

func (s *shelves) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) > 3 {
		s.mu.Lock()
		kind := parts[len(parts)-2]
		if parts[len(parts)-1] == "uploads" || kind == "uploads" {
			kind = "blobs"
		}
		s.asked = append(s.asked, r.Method+" "+kind)
		s.mu.Unlock()
	}
	switch {
	case r.Method == http.MethodPost && r.URL.Query().Get("mount") != "" && s.mount(parts[1], r):
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut && parts[len(parts)-2] == "manifests" && !s.complete(parts[1], r):
		http.Error(w, `{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`, http.StatusBadRequest)
	default:
		s.inner.ServeHTTP(w, r)
	}
}

func (s *shelves) mount(to string, r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	digest, _ := v1.NewHash(r.URL.Query().Get("mount"))
	blob, ok := s.blobs[r.URL.Query().Get("from")][digest]
	if !ok || s.noMount {
		return false
	}
	s.put(to, digest, blob)
	s.taken++
	return true
}

// complete says whether all is there that a manifest names.
func (s *shelves) complete(repository string, r *http.Request) bool {
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

func (s *shelves) put(repository string, digest v1.Hash, blob []byte) {
	if s.blobs[repository] == nil {
		s.blobs[repository] = map[v1.Hash][]byte{}
	}
	s.blobs[repository][digest] = blob
}

// Get implements registry.BlobHandler.
func (s *shelves) Get(_ context.Context, repository string, digest v1.Hash) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blob, ok := s.blobs[repository][digest]
	if !ok {
		return nil, registry.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(blob)), nil
}

// Stat implements registry.BlobStatHandler.
func (s *shelves) Stat(_ context.Context, repository string, digest v1.Hash) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blob, ok := s.blobs[repository][digest]
	if !ok {
		return 0, registry.ErrNotFound
	}
	return int64(len(blob)), nil
}

// Put implements registry.BlobPutHandler.
func (s *shelves) Put(_ context.Context, repository string, digest v1.Hash, r io.ReadCloser) error {
	blob, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(strings.TrimSuffix(repository, "/blobs"), digest, blob) // the handler's name for it in an upload
	s.sent += int64(len(blob))
	return nil
}

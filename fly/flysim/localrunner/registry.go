package localrunner

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxManifest is larger than any manifest; registries commonly refuse larger
// ones.
const maxManifest = 4 << 20

// A diskRegistry is an OCI registry in a folder. go-containerregistry
// implements the protocol and the blobs, but keeps manifests in memory only:
// here each manifest is saved before its push is acknowledged, and restored
// when the folder is opened.
type diskRegistry struct {
	inner http.Handler
	dir   string

	mu   sync.Mutex                   // serializes changes of manifests, so that disk and memory agree
	refs map[string]map[string]string // repository → tag or digest → digest
}

// A savedManifest is the content of one file in the manifests folder.
type savedManifest struct {
	Repository string `json:"repository"`
	Reference  string `json:"reference"` // tag or digest
	MediaType  string `json:"media_type"`
	Manifest   []byte `json:"manifest"` // exact bytes, because the digest covers them
}

// openRegistry returns the registry in dir with everything pushed earlier.
func openRegistry(dir string) (*diskRegistry, error) {
	blobs := filepath.Join(dir, "blobs")
	r := &diskRegistry{dir: filepath.Join(dir, "manifests"), refs: map[string]map[string]string{}}
	for _, d := range []string{blobs, r.dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	if err := removeLeftovers(filepath.Join(blobs, "upload-*"), filepath.Join(r.dir, ".tmp-*")); err != nil {
		return nil, err
	}
	r.inner = registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)),
		registry.WithReferrersSupport(true),
		registry.Logger(log.New(io.Discard, "", 0)),
	)
	return r, r.restoreManifests()
}

func (r *diskRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	// DNS rebinding: a web page must not reach the images by a host name that
	// resolves to loopback.
	if !isLoopbackHost(req.Host) {
		writeRegistryError(w, http.StatusForbidden, "DENIED", "this registry answers on loopback addresses only, not as "+req.Host)
		return
	}
	repository, reference, ok := manifestPath(req.URL.Path)
	switch {
	case ok && req.Method == http.MethodPut:
		r.putManifest(w, req, repository, reference)
	case ok && req.Method == http.MethodDelete:
		r.deleteManifest(w, req, repository, reference)
	default:
		r.inner.ServeHTTP(w, req)
	}
}

func (r *diskRegistry) putManifest(w http.ResponseWriter, req *http.Request, repository, reference string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifest))
	if err != nil {
		writeRegistryError(w, http.StatusBadRequest, "MANIFEST_INVALID", "read manifest: "+err.Error())
		return
	}
	digest := digestOf(body)
	if isDigest(reference) && reference != digest {
		writeRegistryError(w, http.StatusBadRequest, "DIGEST_INVALID", fmt.Sprintf("pushed as %s, but its digest is %s", reference, digest))
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := savedManifest{Repository: repository, Reference: reference, MediaType: req.Header.Get("Content-Type"), Manifest: body}
	a, err := r.putInner(m)
	if err != nil {
		writeRegistryError(w, http.StatusBadRequest, "NAME_INVALID", err.Error())
		return
	}
	if a.code == http.StatusCreated {
		if err := r.saveManifest(m, digest); err != nil {
			writeRegistryError(w, http.StatusInternalServerError, "UNKNOWN", "keep manifest on disk: "+err.Error())
			return
		}
	}
	a.copyTo(w)
}

// saveManifest stores m under its digest and, if it was pushed as a tag, under
// the tag.
func (r *diskRegistry) saveManifest(m savedManifest, digest string) error {
	for _, reference := range []string{digest, m.Reference} {
		m.Reference = reference
		doc, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := writeFileAtomic(r.manifestFile(m.Repository, reference), doc); err != nil {
			return err
		}
		r.setDigest(m.Repository, reference, digest)
	}
	return nil
}

// deleteManifest deletes a tag, or a digest with every tag of it.
func (r *diskRegistry) deleteManifest(w http.ResponseWriter, req *http.Request, repository, reference string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := newBufferedResponse()
	r.inner.ServeHTTP(a, req)
	refs := r.refs[repository]
	for other, digest := range maps.Clone(refs) {
		if other != reference && digest != reference {
			continue
		}
		if other != reference {
			r.deleteInner(repository, other)
		}
		if err := os.Remove(r.manifestFile(repository, other)); err != nil && !os.IsNotExist(err) {
			writeRegistryError(w, http.StatusInternalServerError, "UNKNOWN", "remove manifest from disk: "+err.Error())
			return
		}
		delete(refs, other)
	}
	a.copyTo(w)
}

func (r *diskRegistry) deleteInner(repository, reference string) {
	req, err := http.NewRequest(http.MethodDelete, "/v2/"+repository+"/manifests/"+reference, nil)
	if err == nil {
		r.inner.ServeHTTP(newBufferedResponse(), req)
	}
}

// restoreManifests pushes the saved manifests into the inner registry. An index
// is refused as long as its parts are missing, so this repeats until nothing
// more is accepted.
func (r *diskRegistry) restoreManifests() error {
	paths, err := filepath.Glob(filepath.Join(r.dir, "*.json"))
	if err != nil {
		return err
	}
	var waiting []savedManifest
	for _, path := range paths {
		doc, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var m savedManifest
		if err := json.Unmarshal(doc, &m); err != nil {
			return fmt.Errorf("read saved manifest %s: %w; remove the file and push the image again", path, err)
		}
		waiting = append(waiting, m)
	}
	for len(waiting) > 0 {
		var refused []savedManifest
		for _, m := range waiting {
			a, err := r.putInner(m)
			if err != nil {
				return fmt.Errorf("restore manifest %s of %s: %w", m.Reference, m.Repository, err)
			}
			if a.code != http.StatusCreated {
				refused = append(refused, m)
				continue
			}
			r.setDigest(m.Repository, m.Reference, digestOf(m.Manifest))
		}
		if len(refused) == len(waiting) {
			// Only indexes whose parts were deleted are left. They could not be
			// pulled before either.
			return nil
		}
		waiting = refused
	}
	return nil
}

func (r *diskRegistry) putInner(m savedManifest) (*bufferedResponse, error) {
	req, err := http.NewRequest(http.MethodPut, "/v2/"+m.Repository+"/manifests/"+m.Reference, bytes.NewReader(m.Manifest))
	if err != nil {
		return nil, err
	}
	if m.MediaType == "" {
		m.MediaType = string(types.OCIManifestSchema1)
	}
	req.Header.Set("Content-Type", m.MediaType)
	a := newBufferedResponse()
	r.inner.ServeHTTP(a, req)
	return a, nil
}

func (r *diskRegistry) setDigest(repository, reference, digest string) {
	if r.refs[repository] == nil {
		r.refs[repository] = map[string]string{}
	}
	r.refs[repository][reference] = digest
}

// manifestFile returns the file of a manifest. Its name is a hash, because
// repository names contain slashes and arbitrary characters.
func (r *diskRegistry) manifestFile(repository, reference string) string {
	sum := sha256.Sum256([]byte(repository + "\x00" + reference))
	return filepath.Join(r.dir, hex.EncodeToString(sum[:])+".json")
}

// manifestPath parses /v2/REPOSITORY/manifests/REFERENCE.
func manifestPath(path string) (repository, reference string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return "", "", false
	}
	i := strings.LastIndex(rest, "/manifests/")
	if i <= 0 {
		return "", "", false
	}
	repository, reference = rest[:i], rest[i+len("/manifests/"):]
	return repository, reference, reference != "" && !strings.Contains(reference, "/")
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func isDigest(reference string) bool { return strings.Contains(reference, ":") }

func isLoopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// writeRegistryError writes an error of the distribution protocol, which
// clients show.
func writeRegistryError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	doc, err := json.Marshal(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
	if err == nil {
		_, _ = w.Write(doc) // fails if the client is gone
	}
}

// A bufferedResponse holds a response back until the manifest is stored.
type bufferedResponse struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func newBufferedResponse() *bufferedResponse {
	return &bufferedResponse{header: http.Header{}, code: http.StatusOK}
}

func (a *bufferedResponse) Header() http.Header         { return a.header }
func (a *bufferedResponse) WriteHeader(code int)        { a.code = code }
func (a *bufferedResponse) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *bufferedResponse) copyTo(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.code)
	_, _ = w.Write(a.body.Bytes()) // fails if the client is gone
}

package localrunner

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestRegistry_SurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	addr, url := l.Registry(), l.URL("shop")
	part, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: part})
	all, err := name.NewTag(addr+"/all/platforms:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(all, index); err != nil {
		t.Fatal(err)
	}
	first, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	old := pushImage(t, l, "shop", first) // its tag moves to the next image
	second := pushServer(t, l)
	gone, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	deleted := pushImage(t, l, "gone", gone)
	ref, err := name.NewDigest(deleted, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	deleteImage(t, ref)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// A leftover of a push that was killed.
	leftover := filepath.Join(dir, "registry", "blobs", "upload-1")
	if err := os.WriteFile(leftover, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}

	l = openRunner(t, dir)
	if status, _ := httpGet(t, url); status != http.StatusServiceUnavailable {
		t.Errorf("before its machines run, %s answers %d", url, status)
	}
	if l.Registry() != addr || l.URL("shop") != url {
		t.Errorf("now at %s and %s, before at %s and %s", l.Registry(), l.URL("shop"), addr, url)
	}
	for _, ref := range []string{all.String(), old, second, addr + "/shop:latest"} {
		if _, ok := l.Image(ref); !ok {
			t.Errorf("%s is gone", ref)
		}
	}
	if digest, _ := l.Image("registry.fly.io/shop:latest"); !strings.HasSuffix(second, digest) {
		t.Errorf("the tag names %s, want that of %s", digest, second)
	}
	for _, ref := range []string{deleted, addr + "/gone:latest"} {
		if _, ok := l.Image(ref); ok {
			t.Errorf("%s is back", ref)
		}
	}
	if _, err := os.Stat(leftover); err == nil {
		t.Error("half an upload is still there")
	}
	startAndWait(t, l, "m1", second, nil)
}

func TestRegistry_PushFailsWithoutDisk(t *testing.T) {
	dir := t.TempDir()
	l := openRunner(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, "registry", "manifests")); err != nil { // no manifest can be written
		t.Fatal(err)
	}
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(l.Registry()+"/shop:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	err = remote.Write(ref, image, remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	if err == nil || !strings.Contains(err.Error(), "keep manifest on disk") {
		t.Errorf("the push says %v", err)
	}
}

func TestRegistry_RefusedRequests(t *testing.T) {
	l := openRunner(t, t.TempDir())
	for _, c := range []struct{ method, path, host, body, says string }{
		{"GET", "/v2/", "evil.example:5000", "", "loopback"},
		{"PUT", "/v2/shop/manifests/sha256:" + strings.Repeat("0", 64), "", "{}", "its digest is sha256:44136fa"},
		{"PUT", "/v2/shop/manifests/v1", "", strings.Repeat("x", maxManifest+1), "too large"},
	} {
		req, err := http.NewRequest(c.method, "http://"+l.Registry()+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode < 400 || !strings.Contains(string(body), c.says) {
			t.Errorf("%s %s: %s %s, want it to say %q", c.method, c.path, resp.Status, body, c.says)
		}
	}
}

func deleteImage(t *testing.T, ref name.Reference) {
	t.Helper()
	if err := remote.Delete(ref); err != nil {
		t.Fatal(err)
	}
}

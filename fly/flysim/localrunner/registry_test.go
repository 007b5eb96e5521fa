//go:build unix

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
	runner, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	addr, url := runner.Registry(), runner.URL("shop")
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
	old := pushImage(t, runner, "shop", first) // its tag moves to the next image
	second := pushServer(t, runner)
	gone, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	deleted := pushImage(t, runner, "gone", gone)
	ref, err := name.NewDigest(deleted, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	deleteImage(t, ref)
	if err := runner.Close(); err != nil {
		t.Fatal(err)
	}
	// A leftover of a push that was killed.
	leftover := filepath.Join(dir, "registry", "blobs", "upload-1")
	if err := os.WriteFile(leftover, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}

	runner = openRunner(t, dir)
	if status, _ := httpGet(t, url); status != http.StatusServiceUnavailable {
		t.Errorf("before its machines run, the status of %s is %d", url, status)
	}
	if runner.Registry() != addr || runner.URL("shop") != url {
		t.Errorf("addresses are %s and %s, were %s and %s", runner.Registry(), runner.URL("shop"), addr, url)
	}
	for _, ref := range []string{all.String(), old, second, addr + "/shop:latest"} {
		if _, ok := runner.Image(ref); !ok {
			t.Errorf("%s does not exist any more", ref)
		}
	}
	if digest, _ := runner.Image("registry.fly.io/shop:latest"); !strings.HasSuffix(second, digest) {
		t.Errorf("the tag names %s, want that of %s", digest, second)
	}
	for _, ref := range []string{deleted, addr + "/gone:latest"} {
		if _, ok := runner.Image(ref); ok {
			t.Errorf("%s was deleted and exists again", ref)
		}
	}
	if _, err := os.Stat(leftover); err == nil {
		t.Error("an incomplete upload still exists")
	}
	startAndWait(t, runner, "m1", second, nil)
}

func TestRegistry_PushFailsWithoutDisk(t *testing.T) {
	dir := t.TempDir()
	runner := openRunner(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, "registry", "manifests")); err != nil { // no manifest can be written
		t.Fatal(err)
	}
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(runner.Registry()+"/shop:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	err = remote.Write(ref, image, remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	if err == nil || !strings.Contains(err.Error(), "keep manifest on disk") {
		t.Errorf("error of the push: %v", err)
	}
}

func TestRegistry_RefusedRequests(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	for _, c := range []struct{ method, path, host, body, says string }{
		{"GET", "/v2/", "evil.example:5000", "", "loopback"},
		{"PUT", "/v2/shop/manifests/sha256:" + strings.Repeat("0", 64), "", "{}", "its digest is sha256:44136fa"},
		{"PUT", "/v2/shop/manifests/v1", "", strings.Repeat("x", maxManifest+1), "too large"},
	} {
		req, err := http.NewRequest(c.method, "http://"+runner.Registry()+c.path, strings.NewReader(c.body))
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
			t.Errorf("%s %s: %s %s, want %q", c.method, c.path, resp.Status, body, c.says)
		}
	}
}

func deleteImage(t *testing.T, ref name.Reference) {
	t.Helper()
	if err := remote.Delete(ref); err != nil {
		t.Fatal(err)
	}
}

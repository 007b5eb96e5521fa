package image

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/microbima/release/release"
)

// newTar returns a tar archive. A path that ends in / is a folder, and content that
// begins with -> is a link.
func newTar(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for path, content := range files {
		h := &tar.Header{Name: path, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(path, "/") {
			h.Typeflag = tar.TypeDir
		}
		if target, ok := strings.CutPrefix(content, "->"); ok {
			h.Typeflag, h.Linkname, h.Size, content = tar.TypeSymlink, target, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func newLayer(t *testing.T, files map[string]string) v1.Layer {
	t.Helper()
	raw := newTar(t, files)
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// imageWithLayers returns an image with the given layers.
func imageWithLayers(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// findSecrets pushes an image and returns the secrets that are found in it.
func findSecrets(t *testing.T, img v1.Image, tokens, allow []string) []string {
	t.Helper()
	repository := newFakeRegistry(t).repository(t, "shop")
	pushTag(t, repository, "v1", img)
	found, err := new(Registry).Secrets(t.Context(), release.Image(repository.String()+"@"+digestOf(t, img)), tokens, allow)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func newKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// newToken returns a token like Fly's, which all begin alike.
func newToken(end string) string { return "fm2_" + strings.Repeat("lJPECAAA", 60) + rand.Text() + end }

func TestSecrets_Files(t *testing.T) {
	key, mine := newKey(t), newToken("mine")
	others := mine[:len(mine)-20] + rand.Text() // of the same organization
	armor := func(kind, rest string) string { return "-----BEGIN " + kind + "-----\n" + rest }
	const body = "MHcCAQEEIJ1f6xFZ0yVd9Rk2LwXg5sJq8mT4uYpN\n"
	for name, test := range map[string]struct {
		path, content string
		kind          string // "" for no secret
	}{
		"env vars":                   {"app/.env", "PASSWORD=x", "env vars"},
		"env vars of production":     {"app/.env.production", "PASSWORD=x", "env vars"},
		"an example file":            {"app/.env.example", "PASSWORD=", ""},
		"an example of production":   {"app/.env.production.sample", "PASSWORD=", ""},
		"a similar name":             {"app/config.env", "X=short", ""},
		"direnv":                     {"root/.envrc", "use nix", ""},
		"an empty env file":          {"app/.env", "", ""},
		"a folder of that name":      {"app/.env/", "", ""},
		"a link":                     {"app/.env", "->/run/secrets/env", ""},
		"a key":                      {"etc/tls.key", key, foundKey},
		"a key for OpenSSH":          {"root/.ssh/id_ed25519", armor("OPENSSH PRIVATE KEY", "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n"), foundKey},
		"an RSA key":                 {"k", armor("RSA PRIVATE KEY", body), foundKey},
		"an EC key":                  {"k", armor("EC PRIVATE KEY", body), foundKey},
		"a key with a password":      {"k", armor("ENCRYPTED PRIVATE KEY", body), foundKey},
		"an old key with a password": {"k", armor("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n"), foundKey},
		"a PGP key":                  {"k", armor("PGP PRIVATE KEY BLOCK", "\nlQOYBF"), foundKey},
		"a key in JSON":              {"k.json", `{"private_key": "` + strings.ReplaceAll(key, "\n", `\n`) + `"}`, foundKey},
		"a key in YAML":              {"k.yaml", "tls:\n  key: |\n    " + strings.ReplaceAll(key, "\n", "\r\n    "), foundKey},
		"a key after a certificate":  {"k.pem", armor("CERTIFICATE", strings.Repeat(body, 1000)) + key, foundKey},
		"a certificate":              {"etc/ssl/certs/ca.pem", armor("CERTIFICATE", body), ""},
		"a public key":               {"k.pub", armor("PUBLIC KEY", body), ""},
		"a program that reads keys":  {"usr/bin/ssh", "\x7fELF\x00-----BEGIN OPENSSH PRIVATE KEY-----\n\x00-----END", ""},
		"code that reads keys":       {"pem.py", "BEGIN = '-----BEGIN RSA PRIVATE KEY-----'\nEND = '-----END'", ""},
		"a manual":                   {"pem.md", armor("PRIVATE KEY", "...\n"), ""},
		"a token":                    {"root/.netrc", "password " + mine + "\n", foundToken},
		"a token in a program":       {"bin/x", "\x7fELF" + strings.Repeat("\x00", 300_000) + mine + strings.Repeat("\x00", 300_000), foundToken},
		"a Docker login":             {"root/.docker/config.json", base64.StdEncoding.EncodeToString([]byte("x:" + mine)), foundToken},
		"a Docker login, offset 1":   {"k", base64.StdEncoding.EncodeToString([]byte("xyz:" + mine + "/")), foundToken},
		"a Docker login, offset 2":   {"k", base64.StdEncoding.EncodeToString([]byte("xy:" + mine + "//")), foundToken},
		"a token among env vars":     {"app/.env", "TOKEN=" + mine, foundToken},
		"another user's token":       {"k", others, ""},
	} {
		t.Run(name, func(t *testing.T) {
			want := []string(nil)
			if test.kind != "" {
				want = []string{test.path + ": " + test.kind}
			}
			if got := findSecrets(t, imageWithLayers(t, newLayer(t, map[string]string{test.path: test.content})), []string{mine, "short", ""}, nil); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// A token is found across the borders of the chunks that a file is read in.
func TestSecrets_TokenAcrossChunks(t *testing.T) {
	mine, files := newToken(""), map[string]string{}
	for _, chunk := range []int{256 << 10, 512<<10 - 47, 512 << 10} { // with and without the overlap
		for _, over := range []int{0, 1, 24, 47, 48, 49} {
			before := strings.Repeat("-", chunk+over-len(mine))
			files[fmt.Sprint(chunk, over)] = before + mine
			files[fmt.Sprint(chunk, over, " and on")] = before + mine + strings.Repeat("-", 1000)
		}
	}
	if got := findSecrets(t, imageWithLayers(t, newLayer(t, files)), []string{mine}, nil); len(got) != 21 || got[20] != fmt.Sprintf("… and %d more", len(files)-20) {
		t.Errorf("of %d: %q", len(files), got)
	}
}

// A layer can be pulled even if a later one removes its files.
func TestSecrets_FileRemovedByLaterLayer(t *testing.T) {
	secret := newLayer(t, map[string]string{"app/.env": "PASSWORD=x"})
	for name, later := range map[string]map[string]string{
		"removed":             {"app/.wh..env": ""},
		"overwritten":         {"app/.env": ""},
		"in a removed folder": {"app/.wh..wh..opq": ""},
	} {
		if got := findSecrets(t, imageWithLayers(t, secret, newLayer(t, later)), nil, nil); len(got) != 1 {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestSecrets_Config(t *testing.T) {
	mine := newToken("")
	img := imageWithLayers(t, newLayer(t, map[string]string{"a": "b"}))
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.Env = []string{"PATH=/bin", "FLY_API_TOKEN=FlyV1 " + mine, "TLS_KEY=" + newKey(t)}
	config.Config.Labels = map[string]string{"login": mine, "name": "shop"}
	config.Config.Cmd = []string{"curl", "-H", "Authorization: " + mine}
	config.History[0].CreatedBy = "RUN |1 TOKEN=" + mine + " make"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	got := findSecrets(t, img, []string{mine}, []string{"**"})
	want := []string{"env var FLY_API_TOKEN: " + foundToken, "env var TLS_KEY: " + foundKey, "its config: " + foundToken, "label login: " + foundToken, "step 1 of its history: " + foundToken}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if strings.Contains(strings.Join(got, ""), mine[len(mine)-12:]) {
		t.Error("the report contains the token")
	}
	config = config.DeepCopy()
	config.Config.Cmd = nil
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	if got := findSecrets(t, img, []string{mine}, nil); len(got) != 4 {
		t.Errorf("got %q; want four places, each once", got)
	}
}

// A project may allow its own files, but not the worker's tokens.
func TestSecrets_Allow(t *testing.T) {
	key, mine := newKey(t), newToken("")
	img := imageWithLayers(t, newLayer(t, map[string]string{
		"app/node_modules/tls/test/fixtures/k.pem": key, "app/test/k.pem": key, "etc/tls.key": key, "app/.env": "X=1", "app/test/login": mine,
	}))
	for name, test := range map[string]struct {
		allow []string
		want  []string
	}{
		"nothing":               {nil, []string{"app/.env", "app/node_modules/tls/test/fixtures/k.pem", "app/test/k.pem", "app/test/login", "etc/tls.key"}},
		"a pattern":             {[]string{"**/test/**/*.pem"}, []string{"app/.env", "app/test/login", "etc/tls.key"}},
		"a folder":              {[]string{"/app/node_modules/"}, []string{"app/.env", "app/test/k.pem", "app/test/login", "etc/tls.key"}},
		"a file":                {[]string{"etc/tls.key", "/app/.env"}, []string{"app/node_modules/tls/test/fixtures/k.pem", "app/test/k.pem", "app/test/login"}},
		"a name without a path": {[]string{"k.pem"}, []string{"app/.env", "app/node_modules/tls/test/fixtures/k.pem", "app/test/k.pem", "app/test/login", "etc/tls.key"}},
		"all":                   {[]string{"**"}, []string{"app/test/login"}},
	} {
		got := findSecrets(t, img, []string{mine}, test.allow)
		for i := range got {
			got[i], _, _ = strings.Cut(got[i], ": ")
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	var wrong *BuildError
	_, err := new(Registry).Secrets(t.Context(), release.Image("127.0.0.1:1/shop@"+digestOf(t, img)), nil, []string{"a[b"})
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), `"a[b"`) || !strings.Contains(err.Error(), "release.toml") {
		t.Errorf("an invalid pattern: %v", err)
	}
}

func TestSecrets_Many(t *testing.T) {
	files := map[string]string{}
	for i := range 45 {
		files[fmt.Sprintf("app/%02d/.env", i)] = "X=1"
	}
	got := findSecrets(t, imageWithLayers(t, newLayer(t, files)), nil, nil)
	if len(got) != 21 || got[0] != "app/00/.env: env vars" || got[20] != "… and 25 more" {
		t.Errorf("got %q", got)
	}
	mine := newToken("")
	got = findSecrets(t, imageWithLayers(t, newLayer(t, map[string]string{"a\nb/.env": "X", strings.Repeat("long/", 100) + ".env": "X", "x/" + mine: ""})), []string{mine}, nil)
	if len(got) != 3 || slices.ContainsFunc(got, func(line string) bool {
		return len(line) > 250 || strings.Contains(line, "\n") || strings.Contains(line, mine[len(mine)-20:])
	}) {
		t.Errorf("got %q", got)
	}
}

// Layers are searched whatever their compression is.
func TestSecrets_Compression(t *testing.T) {
	raw := newTar(t, map[string]string{"app/.env": "PASSWORD=x"})
	packed, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
		tarball.WithCompression(compression.ZStd))
	if err != nil {
		t.Fatal(err)
	}
	for name, layer := range map[string]v1.Layer{
		"none": static.NewLayer(raw, types.OCIUncompressedLayer),
		"zstd": packed,
	} {
		if got := findSecrets(t, imageWithLayers(t, layer), nil, nil); len(got) != 1 || got[0] != "app/.env: env vars" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	invalid := static.NewLayer([]byte(strings.Repeat("no archive", 100)), types.OCILayer)
	if got := findSecrets(t, imageWithLayers(t, invalid), nil, nil); len(got) != 1 || !strings.Contains(got[0], "not an archive of files") {
		t.Errorf("got %q; want a layer that is no archive to be reported", got)
	}
}

// A few compressed bytes can unpack to any size and keep a worker busy for days.
func TestSecrets_LayerTooLarge(t *testing.T) {
	s, err := newSearch("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.maxRead = 1000
	large := newLayer(t, map[string]string{"a": strings.Repeat("a", 600), "b": strings.Repeat("b", 600)})
	clean, err := s.searchLayer(t.Context(), v1.Hash{}, large)
	if got := s.report(); clean || err != nil || len(got) != 1 || !strings.Contains(got[0], "more than") {
		t.Errorf("got %v, %q, %v", clean, got, err)
	}
}

// The layers of a base image, most of an image, are read once for all images on it.
func TestSecrets_CleanLayerReadOnce(t *testing.T) {
	s := newFakeRegistry(t)
	repository := s.repository(t, "shop")
	base, own := newLayer(t, map[string]string{"usr/bin/x": "x"}), newLayer(t, map[string]string{"app/.env": "X=1"})
	registry := new(Registry)
	read := func(img v1.Image, tokens, allow []string) int {
		t.Helper()
		pushTag(t, repository, "v1", img)
		s.resetCounts()
		if _, err := registry.Secrets(t.Context(), release.Image(repository.String()+"@"+digestOf(t, img)), tokens, allow); err != nil {
			t.Fatal(err)
		}
		return s.requestCount("GET blobs") - 1 // the config
	}
	img := imageWithLayers(t, base, own)
	for i, test := range []struct {
		name          string
		tokens, allow []string
		reads         int
	}{
		{"first search", nil, nil, 2},
		{"second search reads the layer with a secret", nil, nil, 1},
		{"another token", []string{"a-long-enough-token"}, nil, 2},
		{"another pattern of allow", nil, []string{"app"}, 2},
		{"the same pattern of allow", nil, []string{"app"}, 0},
	} {
		if got := read(img, test.tokens, test.allow); got != test.reads {
			t.Errorf("%d, %s: %d layers were read, want %d", i, test.name, got, test.reads)
		}
	}
	if got := read(imageWithLayers(t, base, newLayer(t, map[string]string{"y": "y"})), nil, nil); got != 1 {
		t.Errorf("another image on the base: %d layers were read, want 1", got)
	}
}

// Workers have little memory.
func TestSecrets_LargeLayerUsesLittleMemory(t *testing.T) {
	s := newFakeRegistry(t)
	repository := s.repository(t, "shop")
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			files := tar.NewWriter(w)
			err := files.WriteHeader(&tar.Header{Name: "x", Mode: 0o644, Size: 200 << 20, Typeflag: tar.TypeReg})
			if err == nil {
				_, err = io.CopyN(files, zeros{}, 200<<20)
			}
			w.CloseWithError(errors.Join(err, files.Close()))
		}()
		return r, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	img := imageWithLayers(t, layer)
	pushTag(t, repository, "v1", img)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	found, err := new(Registry).Secrets(t.Context(), release.Image(repository.String()+"@"+digestOf(t, img)), []string{newToken("")}, nil)
	runtime.ReadMemStats(&after)
	if err != nil || len(found) > 0 {
		t.Fatal(found, err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 20<<20 {
		t.Errorf("%d bytes were allocated for a layer of 200 MB", allocated)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestSecrets_MissingImageOrLayer(t *testing.T) {
	s := newFakeRegistry(t)
	repository := s.repository(t, "shop")
	gone := release.Image(repository.String() + "@sha256:" + strings.Repeat("0", 64))
	if _, err := new(Registry).Secrets(t.Context(), gone, nil, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	img := imageWithLayers(t, newLayer(t, map[string]string{"a": "b"}))
	pushTag(t, repository, "v1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	delete(s.blobs["shop"], digest)
	if found, err := new(Registry).Secrets(t.Context(), release.Image(repository.String()+"@"+digestOf(t, img)), nil, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a deleted layer was not reported: %q, %v", found, err)
	}
	plain := static.NewLayer(newTar(t, map[string]string{"a": "b"}), types.OCIUncompressedLayer)
	img = imageWithLayers(t, plain)
	pushTag(t, repository, "v2", img)
	if digest, err = plain.Digest(); err != nil {
		t.Fatal(err)
	}
	s.putBlob("shop", digest, newTar(t, map[string]string{"a": "c"}))
	if found, err := new(Registry).Secrets(t.Context(), release.Image(repository.String()+"@"+digestOf(t, img)), nil, nil); err == nil {
		t.Errorf("a layer with a wrong digest was not reported: %q", found)
	}
}

// A scanner reads the image from a folder, because it gets no login for the registry.
func TestSave(t *testing.T) {
	s := newFakeRegistry(t)
	repository := s.repository(t, "shop")
	img := imageFor(t, "linux/amd64")
	pushTag(t, repository, "v1", img)
	ref, dir := release.Image(repository.String()+"@"+digestOf(t, img)), t.TempDir()
	if err := new(Registry).Save(t.Context(), ref, dir); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest.String() != ref.Digest() {
		t.Fatalf("got %+v, %v", manifest, err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "blobs", "sha256", digest.Hex)); err != nil {
			t.Error(err)
		}
	}
	gone := release.Image(repository.String() + "@sha256:" + strings.Repeat("0", 64))
	if err := new(Registry).Save(t.Context(), gone, t.TempDir()); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

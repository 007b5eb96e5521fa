package buildkit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/image"
)

// COPY copies the files of the checkout that are not ignored, and no others.
func TestBuild_ContextFiles(t *testing.T) {
	b := startBuildkitd(t, "").newBuilder(t)
	host := newRegistry(t)
	out := tempDir(t)
	writeFile(t, out, "secret", "outside")
	files := map[string]string{
		"infra/Dockerfile": "FROM scratch\nCOPY . /\n", "a": "a", "b": "b", "c": "c",
		".git/HEAD": "ref", "sub/.git": "gitdir: x", "sub/d": "d",
		"out": "-> " + filepath.Join(out, "secret"), "outdir": "-> " + out,
	}
	for title, test := range map[string]struct {
		more       map[string]string
		ignorefile string
		want       string // of a, b, c, ignored
	}{
		"nothing is ignored":            {nil, "", "abc"},
		".dockerignore":                 {map[string]string{".dockerignore": "a\n"}, "", "bc"},
		"the Dockerfile's wins":         {map[string]string{".dockerignore": "a\n", "infra/Dockerfile.dockerignore": "b\n"}, "", "ac"},
		"the recipe's wins":             {map[string]string{".dockerignore": "a\n", "infra/Dockerfile.dockerignore": "b\n", "infra/ignore": "c\n"}, "infra/ignore", "ab"},
		"the recipe's is empty":         {map[string]string{".dockerignore": "a\n", "infra/ignore": ""}, "infra/ignore", "abc"},
		"an ignore file that is a link": {map[string]string{".dockerignore": "-> infra/ignore", "infra/ignore": "c\n"}, "", "ab"},
	} {
		t.Run(title, func(t *testing.T) {
			all := map[string]string{}
			for _, some := range []map[string]string{files, test.more} {
				for path, content := range some {
					all[path] = content
				}
			}
			req, _ := newRequest(t, host)
			req.Tag, req.Recipe.Dockerfile, req.Recipe.Ignorefile = "", "infra/Dockerfile", test.ignorefile
			img, _ := pull(t, build(t, b, newSource(t, all), req).Image)
			got := ""
			for _, path := range []string{"a", "b", "c"} {
				got += readImageFile(t, img, path)
			}
			if got != test.want {
				t.Errorf("%q are in the image, want %q", got, test.want)
			}
			names := listImageFiles(t, img)
			for path, want := range map[string]bool{"sub/d": true, ".git/HEAD": false, "sub/.git": false, "outdir/secret": false} {
				if slices.Contains(names, path) != want {
					t.Errorf("%s is in the image: %v", path, !want)
				}
			}
			if readImageFile(t, img, "out") != "" {
				t.Error("a file from outside the checkout is in the image")
			}
		})
	}
}

// Build arguments are public. Only the step that mounts a secret sees it.
func TestBuild_ArgsAndSecrets(t *testing.T) {
	b := startBuildkitd(t, "").newBuilder(t)
	b.Secrets = map[string]string{"KEY": "top-secret-value", "OTHER": "of-another-app"}
	src := newSource(t, map[string]string{"Dockerfile": `FROM base:1 AS one
ARG WORD=none
RUN --mount=type=secret,id=KEY --mount=type=secret,id=OTHER \
    echo "$WORD" > /word; sha256sum < /run/secrets/KEY > /sum; ls /run/secrets > /secrets; cat /run/secrets/KEY
FROM one AS two
RUN echo two > /two
FROM two
RUN echo three > /three
`})
	req, out := newRequest(t, newRegistry(t))
	req.Recipe.Secrets, req.Recipe.BuildTarget, req.Recipe.Args = []string{"KEY"}, "two", map[string]string{"WORD": "hello"}
	built := build(t, b, src, req)
	img, config := pull(t, built.Image)
	if got := readImageFile(t, img, "word"); got != "hello\n" {
		t.Errorf("the argument is %q", got)
	}
	if got := readImageFile(t, img, "sum"); !strings.HasPrefix(got, "4823648dbe986627638418ba4469261474bd52043ffef910a5b2d62c92df86bc") {
		t.Errorf("the secret's checksum is %q", got)
	}
	if got := readImageFile(t, img, "secrets"); got != "KEY\n" {
		t.Errorf("the mounted secrets are %q; want only the one of the recipe", got)
	}
	if readImageFile(t, img, "two") != "two\n" || readImageFile(t, img, "three") != "" {
		t.Error("the image is not that of the build target")
	}
	tag, err := name.NewTag(req.Repository + ":" + req.Tag)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"log": out.String(), "attestation": readAttestation(t, index), "config": fmt.Sprint(config.History, config.Config)} {
		if strings.Contains(text, "top-secret-value") {
			t.Errorf("the secret is in the %s: %s", where, text)
		}
	}
	if !strings.Contains(out.String(), "***") {
		t.Error("the log lacks the masked output of the step")
	}
	req.Recipe.Secrets = []string{"THIRD"}
	if _, err := b.Build(t.Context(), src, req); errors.As(err, new(*image.BuildError)) || !strings.Contains(fmt.Sprint(err), "--build-secret THIRD") {
		t.Errorf("a secret that another worker may have: %v", err)
	}
	req.Platform, req.Tag, req.Recipe.Secrets = "linux/386", "v2", []string{"KEY"}
	if _, err := b.Build(t.Context(), src, req); !strings.Contains(fmt.Sprint(err), "linux/amd64, but linux/386 is needed") {
		t.Errorf("the request's platform is not used: %v", err)
	}
}

// A large context is usually a mistake, so the build notes it.
func TestBuild_LargeContext(t *testing.T) {
	b := startBuildkitd(t, "").newBuilder(t)
	b.Large = 100e3
	src := newSource(t, map[string]string{
		"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "ignored\n", "ignored": strings.Repeat("x", 300e3), "a": "a",
		"web/node_modules/x/y": strings.Repeat("x", 50e3), "web/node_modules/z": strings.Repeat("x", 40e3), "web/src/a": strings.Repeat("x", 20e3),
	})
	req, out := newRequest(t, newRegistry(t))
	built := build(t, b, src, req)
	const want = "110.0 kB of files are sent to BuildKit (web/node_modules 90.0 kB, web/src 20.0 kB, Dockerfile 22 bytes, .dockerignore 8 bytes, a 1 bytes): exclude files that the image doesn't need with .dockerignore"
	if len(built.Notes) != 1 || built.Notes[0] != want {
		t.Errorf("the notes are %q, want %q", built.Notes, want)
	}
	noted, sent := strings.Index(out.String(), "of files are sent to BuildKit"), strings.Index(out.String(), "exporting to image")
	if noted < 0 || noted > sent {
		t.Errorf("the note is at offset %d of the log, the export at %d; want the note first", noted, sent)
	}
	writeFile(t, src.Dir, "b", "b")
	src = newSource(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a", "b": strings.Repeat("x", 300e3)})
	if built := build(t, b, src, req); len(built.Notes) != 0 {
		t.Errorf("files that no COPY names are not sent; got notes %q", built.Notes)
	}
}

// Test runs a build target that is a test, and pushes no image.
func TestTest_PassesOrFails(t *testing.T) {
	b := startBuildkitd(t, "").newBuilder(t)
	src := newSource(t, map[string]string{"Dockerfile": "FROM base:1 AS build\nCOPY a /a\nFROM build AS test\nRUN echo testing; cat /a\nFROM build\n", "a": "it works"})
	req, out := newRequest(t, "")
	req.Repository, req.Tag, req.Recipe.BuildTarget = "", "", "test"
	const cached = "every step is in BuildKit's cache"
	if err := b.Test(t.Context(), src, req); err != nil || !strings.Contains(out.String(), "it works") || strings.Contains(out.String(), cached) {
		t.Errorf("the test: %v", err)
	}
	if err := b.Test(t.Context(), src, req); err != nil || !strings.Contains(out.String(), cached) {
		t.Errorf("the same test again: %v", err)
	}
	if err := os.WriteFile(filepath.Join(src.Dir, "Dockerfile"), []byte("FROM base:1 AS test\nRUN echo FAIL TestSum; exit 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	failed := wantBuildError(t, b.Test(t.Context(), src, req))
	if !strings.Contains(failed.Reason, "Dockerfile:2: ") || !strings.Contains(failed.Output, "FAIL TestSum") {
		t.Errorf("a test that fails: %+v", failed)
	}
}

// A full disk is no error of the source.
func TestBuild_DiskFull(t *testing.T) {
	findBuildkitd(t)
	root := filepath.Join(tempDir(t), "small")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=40m"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b := startBuildkitd(t, root).newBuilder(t)
	for title, src := range map[string]image.Source{
		"in a step":    newSource(t, map[string]string{"Dockerfile": "FROM base:1\nRUN dd if=/dev/zero of=/big bs=1M count=100\n"}),
		"in a context": newSource(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY big /\n", "big": strings.Repeat("0123456789abcdef", 4<<20)}),
	} {
		req, _ := newRequest(t, newRegistry(t))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := b.Build(ctx, src, req)
		cancel()
		var failed *image.BuildError
		if err == nil || errors.As(err, &failed) || !strings.Contains(err.Error(), "no space left on the disk of BuildKit at ") {
			t.Errorf("%s: got %T %v", title, err, err)
		}
	}
}

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

// TestContext: COPY gets the files of the checkout but for what is ignored, and
// nothing else.
func TestContext(t *testing.T) {
	b := start(t, "").builder(t)
	host := shop(t)
	out := folder(t)
	write(t, out, "secret", "outside")
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
			req, _ := request(t, host)
			req.Tag, req.Recipe.Dockerfile, req.Recipe.Ignorefile = "", "infra/Dockerfile", test.ignorefile
			img, _ := pull(t, build(t, b, source(t, all), req).Image)
			got := ""
			for _, path := range []string{"a", "b", "c"} {
				got += fileOf(t, img, path)
			}
			if got != test.want {
				t.Errorf("%q are in the image, want %q", got, test.want)
			}
			names := filesOf(t, img)
			for path, is := range map[string]bool{"sub/d": true, ".git/HEAD": false, "sub/.git": false, "outdir/secret": false} {
				if slices.Contains(names, path) != is {
					t.Errorf("%s is in the image: %v", path, !is)
				}
			}
			if fileOf(t, img, "out") != "" {
				t.Error("a file of outside is in the image")
			}
		})
	}
}

// TestArgsAndSecrets: an argument is for all to see, a secret for the step that
// mounts it.
func TestArgsAndSecrets(t *testing.T) {
	b := start(t, "").builder(t)
	b.Secrets = map[string]string{"KEY": "top-secret-value", "OTHER": "of-another-app"}
	src := source(t, map[string]string{"Dockerfile": `FROM base:1 AS one
ARG WORD=none
RUN --mount=type=secret,id=KEY --mount=type=secret,id=OTHER \
    echo "$WORD" > /word; sha256sum < /run/secrets/KEY > /sum; ls /run/secrets > /secrets; cat /run/secrets/KEY
FROM one AS two
RUN echo two > /two
FROM two
RUN echo three > /three
`})
	req, out := request(t, shop(t))
	req.Recipe.Secrets, req.Recipe.BuildTarget, req.Recipe.Args = []string{"KEY"}, "two", map[string]string{"WORD": "hello"}
	built := build(t, b, src, req)
	img, config := pull(t, built.Image)
	if got := fileOf(t, img, "word"); got != "hello\n" {
		t.Errorf("the argument was %q", got)
	}
	if got := fileOf(t, img, "sum"); !strings.HasPrefix(got, "4823648dbe986627638418ba4469261474bd52043ffef910a5b2d62c92df86bc") {
		t.Errorf("the secret's sum was %q", got)
	}
	if got := fileOf(t, img, "secrets"); got != "KEY\n" {
		t.Errorf("the secrets were %q: the recipe names one", got)
	}
	if fileOf(t, img, "two") != "two\n" || fileOf(t, img, "three") != "" {
		t.Error("it does not end with the build target")
	}
	tag, err := name.NewTag(req.Repository + ":" + req.Tag)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"log": out.String(), "attestation": attestation(t, index), "config": fmt.Sprint(config.History, config.Config)} {
		if strings.Contains(text, "top-secret-value") {
			t.Errorf("the secret is in the %s: %s", where, text)
		}
	}
	if !strings.Contains(out.String(), "***") {
		t.Error("what the step printed is not in the log at all")
	}
	req.Recipe.Secrets = []string{"THIRD"}
	if _, err := b.Build(t.Context(), src, req); errors.As(err, new(*image.BuildError)) || !strings.Contains(fmt.Sprint(err), "--build-secret THIRD") {
		t.Errorf("a secret that another worker may have: %v", err)
	}
	req.Platform, req.Tag, req.Recipe.Secrets = "linux/386", "v2", []string{"KEY"}
	if _, err := b.Build(t.Context(), src, req); !strings.Contains(fmt.Sprint(err), "linux/amd64, and one for linux/386 is asked for") {
		t.Errorf("the request's platform does not win: %v", err)
	}
}

// TestLargeContext: what is sent by mistake is most often large.
func TestLargeContext(t *testing.T) {
	b := start(t, "").builder(t)
	b.Large = 100e3
	src := source(t, map[string]string{
		"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "ignored\n", "ignored": strings.Repeat("x", 300e3), "a": "a",
		"web/node_modules/x/y": strings.Repeat("x", 50e3), "web/node_modules/z": strings.Repeat("x", 40e3), "web/src/a": strings.Repeat("x", 20e3),
	})
	req, out := request(t, shop(t))
	built := build(t, b, src, req)
	const want = "110.0 kB of files go to BuildKit (web/node_modules 90.0 kB, web/src 20.0 kB, Dockerfile 22 bytes, .dockerignore 8 bytes, a 1 bytes): keep out what the image doesn't need with .dockerignore"
	if len(built.Notes) != 1 || built.Notes[0] != want {
		t.Errorf("the notes are %q, want %q", built.Notes, want)
	}
	noted, sent := strings.Index(out.String(), "of files go to BuildKit"), strings.Index(out.String(), "exporting to image")
	if noted < 0 || noted > sent {
		t.Errorf("the log tells of it at %d, and of the export at %d", noted, sent)
	}
	write(t, src.Dir, "b", "b")
	src = source(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a", "b": strings.Repeat("x", 300e3)})
	if built := build(t, b, src, req); len(built.Notes) != 0 {
		t.Errorf("what no COPY asks for is not sent: %q", built.Notes)
	}
}

// TestTest: a build target that is a test passes or fails, and leaves no image.
func TestTest(t *testing.T) {
	b := start(t, "").builder(t)
	src := source(t, map[string]string{"Dockerfile": "FROM base:1 AS build\nCOPY a /a\nFROM build AS test\nRUN echo testing; cat /a\nFROM build\n", "a": "it works"})
	req, out := request(t, "")
	req.Repository, req.Tag, req.Recipe.BuildTarget = "", "", "test"
	const kept = "every step was carried out before"
	if err := b.Test(t.Context(), src, req); err != nil || !strings.Contains(out.String(), "it works") || strings.Contains(out.String(), kept) {
		t.Errorf("the test: %v", err)
	}
	if err := b.Test(t.Context(), src, req); err != nil || !strings.Contains(out.String(), kept) {
		t.Errorf("the same test again: %v", err)
	}
	if err := os.WriteFile(filepath.Join(src.Dir, "Dockerfile"), []byte("FROM base:1 AS test\nRUN echo FAIL TestSum; exit 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	failed := buildError(t, b.Test(t.Context(), src, req))
	if !strings.Contains(failed.Reason, "Dockerfile:2: ") || !strings.Contains(failed.Output, "FAIL TestSum") {
		t.Errorf("a test that fails: %+v", failed)
	}
}

// TestDiskFull: is not the source's fault.
func TestDiskFull(t *testing.T) {
	programs(t)
	root := filepath.Join(folder(t), "small")
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
	b := start(t, root).builder(t)
	for title, src := range map[string]image.Source{
		"in a step":    source(t, map[string]string{"Dockerfile": "FROM base:1\nRUN dd if=/dev/zero of=/big bs=1M count=100\n"}),
		"in a context": source(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY big /\n", "big": strings.Repeat("0123456789abcdef", 4<<20)}),
	} {
		req, _ := request(t, shop(t))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := b.Build(ctx, src, req)
		cancel()
		var failed *image.BuildError
		if err == nil || errors.As(err, &failed) || !strings.Contains(err.Error(), "no space left where BuildKit at ") {
			t.Errorf("%s: got %T %v", title, err, err)
		}
	}
}

//go:build unix

package localrunner

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/microbima/release/fly/flysim"
)

func TestUnpack_LayersAndWhiteouts(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	ref := pushImage(t, runner, "shop", imageOf(t, v1.Config{},
		layerOf(t,
			entry{Name: "/etc/", Type: tar.TypeDir, Mode: 0o500}, // not writable for its owner
			entry{Name: "/etc/hosts", Content: "one", Mode: 0o444},
			entry{Name: "usr/bin/tool", Content: "tool", Mode: 0o4755},
			entry{Name: "bin", Type: tar.TypeSymlink, Link: "/usr/bin"},
			entry{Name: "usr/bin/up", Type: tar.TypeSymlink, Link: "../../../../../etc/hosts"},
			entry{Name: "same", Type: tar.TypeLink, Link: "/etc/hosts"},
			entry{Name: "dev/null", Type: tar.TypeChar},
			entry{Name: "old/a", Content: "a"},
			entry{Name: "old/b", Content: "b"},
			entry{Name: "cache/x", Content: "x"},
			entry{Name: "turns", Content: "file"},
		),
		layerOf(t,
			entry{Name: "old/.wh.a"},
			entry{Name: "cache/new", Content: "new"},
			entry{Name: "cache/.wh..wh..opq"},
			entry{Name: "etc/hosts", Content: "two"},
			entry{Name: "bin/second", Content: "through a link"},
			entry{Name: "turns", Type: tar.TypeDir},
			entry{Name: "turns/folder", Content: "now"},
		)))
	i, err := runner.images.unpack(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = filepath.WalkDir(i.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == filepath.Join(i.root, "bin") { // a link to a directory
			return err
		}
		name, _ := filepath.Rel(i.root, path)
		b, err := os.ReadFile(path)
		got[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"etc/hosts": "two", "same": "one", "usr/bin/tool": "tool", "usr/bin/up": "two", "usr/bin/second": "through a link",
		"old/b": "b", "cache/new": "new", "turns/folder": "now",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(filepath.Join(i.root, "bin/tool")); err != nil || info.Mode() != 0o755 {
		t.Errorf("bin/tool: %v, %v", info.Mode(), err)
	}
}

func TestUnpack_LayerOutsideImageRefused(t *testing.T) {
	dir := t.TempDir()
	runner := openRunner(t, dir)
	for what, entries := range map[string][]entry{
		"a path that climbs":          {{Name: "../../../escaped", Content: "x"}},
		"an absolute one":             {{Name: "/../escaped", Content: "x"}},
		"a hard link to outside":      {{Name: "passwd", Type: tar.TypeLink, Link: "../../../../../../etc/passwd"}},
		"a whiteout of the parent":    {{Name: ".wh..."}, {Name: "x/.wh..."}},
		"a whiteout outside":          {{Name: "../../.wh.registry"}},
		"a loop of links to write by": {{Name: "link", Type: tar.TypeSymlink, Link: "."}, {Name: "out", Type: tar.TypeSymlink, Link: "link/../x"}, {Name: "out/escaped", Content: "x"}},
	} {
		ref := pushImage(t, runner, "evil", imageOf(t, v1.Config{Cmd: []string{"/x"}}, layerOf(t, entries...)))
		_, err := runner.Start(t.Context(), flysim.Instance{App: "shop", ID: "m1", Config: configOf(t, ref, nil)})
		if err == nil || !strings.Contains(err.Error(), "unpack image") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "images", "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "registry")); err != nil {
		t.Error(err)
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Base(path) == "escaped" {
			t.Errorf("%s was written", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A link may point outside as long as its target is not executed or written.
func TestStart_ProgramOutsideImageRefused(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	ref := pushImage(t, runner, "shop", imageOf(t, v1.Config{Entrypoint: []string{"/sh"}}, layerOf(t,
		entry{Name: "here", Type: tar.TypeSymlink, Link: "."},
		entry{Name: "sh", Type: tar.TypeSymlink, Link: strings.Repeat("here/", 30) + strings.Repeat("../", 30) + "bin/sh"})))
	_, err := runner.Start(t.Context(), flysim.Instance{App: "shop", ID: "m1", Config: configOf(t, ref, nil)})
	if err == nil || !strings.Contains(err.Error(), "has no program /sh") {
		t.Errorf("got %v", err)
	}
}

func TestStart_ErrorNamesReason(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	program := func(content string, mode int64) string {
		return pushImage(t, runner, "shop", imageOf(t, v1.Config{Entrypoint: []string{"/app/run"}}, layerOf(t, entry{Name: "app/run", Content: content, Mode: mode})))
	}
	foreign, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "plan9", Architecture: "mips"})
	if err != nil {
		t.Fatal(err)
	}
	good := program("x", 0o755)
	nowhere := runner.Registry() + "/shop@sha256:" + strings.Repeat("0", 64)
	here := runtime.GOOS + "/" + runtime.GOARCH
	for _, c := range []struct{ config, says string }{
		{`[]`, "read its config"},
		{`{}`, "names no image"},
		{`{"image":"Not A Reference"}`, `image "Not A Reference"`},
		{fmt.Sprintf(`{"image":%q}`, nowhere), "image " + nowhere + " is not in the registry"},
		{fmt.Sprintf(`{"image":%q}`, pushImage(t, runner, "foreign", foreign)), "is built for plan9/mips, and this machine runs " + here},
		{fmt.Sprintf(`{"image":%q}`, pushImage(t, runner, "nothing", imageOf(t, v1.Config{}))), "neither entrypoint nor cmd"},
		{fmt.Sprintf(`{"image":%q,"init":{"exec":["/bin/sh"]}}`, good), "has no program /bin/sh"},
		{fmt.Sprintf(`{"image":%q,"init":{"exec":["sh"]}}`, good), "has no program sh in its PATH"},
		{fmt.Sprintf(`{"image":%q}`, program("x", 0o644)), "/app/run is not executable"},
		{fmt.Sprintf(`{"image":%q}`, program("neither ELF nor script", 0o755)), "is not a program for " + here},
		{fmt.Sprintf(`{"image":%q}`, program("#!/no/such/interpreter\n", 0o755)), "link it statically"},
	} {
		p, err := runner.Start(t.Context(), flysim.Instance{App: "shop", ID: "m1", Config: json.RawMessage(c.config)})
		if p != nil || err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "machine m1 of shop") {
			t.Errorf("%s\n says %v\n want %s", c.config, err, c.says)
		}
	}
	if _, err := runner.Start(t.Context(), flysim.Instance{App: "shop", ID: "../m1", Config: json.RawMessage(`{}`)}); err == nil {
		t.Error("an ID that is a path was accepted")
	}
	for _, folder := range []string{"scratch", "processes"} {
		if left, _ := filepath.Glob(filepath.Join(runner.dir, folder, "*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

func TestStart_DeletedImageStillUnpacked(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	ref := pushServer(t, runner)
	startAndWait(t, runner, "m1", ref, nil)
	r, err := runner.images.parseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	deleteImage(t, r)
	_, err = runner.Start(t.Context(), flysim.Instance{App: "shop", ID: "m2", Config: configOf(t, ref, nil)})
	if err == nil || !strings.Contains(err.Error(), "is not in the registry") {
		t.Errorf("got %v", err)
	}
}

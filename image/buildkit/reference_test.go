package buildkit_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/pelletier/go-toml/v2"

	"github.com/microbima/release/config"
	"github.com/microbima/release/image"
	"github.com/microbima/release/image/buildkit"
	"github.com/microbima/release/release"
)

const repository = "../.."

// TestReferenceDockerfiles: infra/fly/Dockerfile builds an image for each target of
// infra/fly, and the image does what Fly asks of a machine.
func TestReferenceDockerfiles(t *testing.T) {
	if testing.Short() {
		t.Skip("builds six images: skipped with -short")
	}
	project, _, err := config.Load(os.DirFS(repository))
	if err != nil {
		t.Fatal(err)
	}
	b := &buildkit.Builder{Address: startBuildkitd(t, "").address, Layouts: map[string]string{
		"debian:12.11-slim": debian(t), "golang:1.26.8-bookworm": golang(t),
	}}
	host := newRegistry(t)
	for _, env := range project.Environments {
		for _, target := range env.Targets {
			t.Run(target.Target.String(), func(t *testing.T) {
				app, _ := project.App(target.Target.App)
				app.Go = "" // release.toml names the Go builder; this test is of the Dockerfile
				one := release.Project{Apps: []release.App{app}}
				recipe := one.Recipe(target, nil)
				if recipe.Dockerfile != "infra/fly/Dockerfile" || recipe.BuildTarget != env.Name || recipe.Args["APP"] != app.Name {
					t.Fatalf("the recipe is %+v", recipe)
				}
				req, _ := newRequest(t, host)
				req.Name, req.Recipe, req.Repository = app.Name, recipe, host+"/"+target.FlyApp
				began := time.Now()
				src := image.Source{Dir: repository, Revision: release.Revision{Commit: strings.Repeat("ab", 20)}}
				built := build(t, b, src, req)
				img, config := pull(t, built.Image)
				size := compressed(t, img)
				t.Logf("%s: %.1f MB compressed, built in %v", recipe, float64(size)/1e6, time.Since(began).Round(100*time.Millisecond))
				production := env.Name == "production"
				if production && size > 25e6 {
					t.Errorf("the image is %d bytes", size)
				}
				root := unpack(t, img)
				// Staging's images have a shell, which proves that findTools finds one.
				if found := findTools(root); production != (len(found) == 0) {
					t.Errorf("in the image there are the tools %q", found)
				}
				checkRuns(t, root, config.Config, target.Target, production)
			})
		}
	}
}

func compressed(t *testing.T, img v1.Image) (size int64) {
	t.Helper()
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return size
}

// unpack writes the files of an image to a new folder.
func unpack(t *testing.T, img v1.Image) string {
	t.Helper()
	root := filepath.Join(tempDir(t), "rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	all := mutate.Extract(img)
	defer all.Close()
	tar := exec.Command("tar", "-x", "-p", "--numeric-owner", "-C", root)
	tar.Stdin = all
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return root
}

// findTools returns the programs in an image that help an attacker: shells,
// compilers, package managers.
func findTools(root string) (found []string) {
	for _, name := range []string{"sh", "bash", "dash", "busybox", "gcc", "cc", "go", "perl", "python3", "apt-get", "dpkg", "curl", "wget", "su", "mount"} {
		for _, dir := range []string{"bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/go/bin"} {
			if _, err := os.Lstat(filepath.Join(root, dir, name)); err == nil {
				found = append(found, "/"+dir+"/"+name)
			}
		}
	}
	return found
}

// checkRuns starts an image as Fly starts a machine, checks that it serves requests,
// and stops it as Fly does.
func checkRuns(t *testing.T, root string, config v1.Config, target release.Target, production bool) {
	var fly struct {
		Env         map[string]string
		KillTimeout string `toml:"kill_timeout"`
		KillSignal  string `toml:"kill_signal"`
	}
	doc, err := os.ReadFile(filepath.Join(repository, "infra/fly", target.App, target.Environment, "fly.toml"))
	if err == nil {
		err = toml.Unmarshal(doc, &fly)
	}
	if err != nil {
		t.Fatal(err)
	}
	timeout, err := time.ParseDuration(fly.KillTimeout)
	if err != nil || fly.KillSignal != "SIGTERM" {
		t.Fatal(fly, err)
	}
	var requested atomic.Bool
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requested.Store(true)
		time.Sleep(time.Second)
		io.WriteString(w, `{"message":"hello","app":"internal-api"}`)
	}))
	defer slow.Close()
	port := freePort(t)
	fly.Env["PORT"], fly.Env["FLY_APP_NAME"] = port, target.String()
	_, hasUpstream := fly.Env["INTERNAL_API_URL"]
	if hasUpstream {
		fly.Env["INTERNAL_API_URL"] = slow.URL
	}
	c := run(t, root, config, fly.Env)
	url := "http://127.0.0.1:" + port
	eventually(t, "/health answers 200", func() bool {
		select {
		case err := <-c.ended:
			t.Fatalf("it ended: %v\n%s", err, c.output)
		default:
		}
		res, err := http.Get(url + "/health")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	if got := c.status(t, "Uid"); got != "65532 65532 65532 65532" {
		t.Errorf("it runs as %s", got)
	}
	if got := c.status(t, "Name"); production && got != "dumb-init" {
		t.Errorf("PID 1 is %s", got)
	}
	if pids := strings.Fields(c.status(t, "NSpid")); pids[len(pids)-1] != "1" {
		t.Errorf("its PIDs are %v", pids)
	}
	answered := make(chan error, 1)
	if hasUpstream { // a request is in flight when the machine is stopped
		go func() {
			res, err := http.Get(url + map[string]string{"public-api": "/v1/hello", "web-admin": "/"}[target.App])
			if err == nil {
				res.Body.Close()
				if res.StatusCode != http.StatusOK {
					err = errors.New(res.Status)
				}
			}
			answered <- err
		}()
		eventually(t, "it requests internal-api", requested.Load)
	} else {
		answered <- nil
	}
	stopped := time.Now()
	c.kill(t, "TERM")
	select {
	case err := <-c.ended:
		if err != nil {
			t.Errorf("it ended with %v\n%s", err, c.output)
		}
		t.Logf("drained in %v", time.Since(stopped).Round(10*time.Millisecond))
	case <-time.After(timeout):
		t.Errorf("it did not end within %v after SIGTERM\n%s", timeout, c.output)
	}
	if err := <-answered; err != nil {
		t.Errorf("the request in flight got %v\n%s", err, c.output)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// A container is a process under runc with its own PIDs and files, and with the
// network of this machine.
type container struct {
	state, id string
	ended     chan error
	output    *lockedBuffer
}

// run starts a container with an image's files and config.
func run(t *testing.T, root string, config v1.Config, env map[string]string) *container {
	t.Helper()
	bundle := filepath.Dir(root)
	if out, err := exec.Command("runc", "spec", "--bundle", bundle).CombinedOutput(); err != nil {
		t.Fatalf("runc spec: %v\n%s", err, out)
	}
	var spec map[string]any
	doc, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err == nil {
		err = json.Unmarshal(doc, &spec)
	}
	if err != nil {
		t.Fatal(err)
	}
	var uid, gid int
	if _, err := fmt.Sscanf(config.User, "%d:%d", &uid, &gid); err != nil {
		t.Fatalf("user %q: %v", config.User, err)
	}
	process := spec["process"].(map[string]any)
	process["terminal"] = false
	process["user"] = map[string]int{"uid": uid, "gid": gid}
	process["args"] = append(config.Entrypoint, config.Cmd...)
	process["cwd"] = cmp.Or(config.WorkingDir, "/")
	process["capabilities"] = map[string]any{}
	vars := config.Env
	for name, value := range env {
		vars = append(vars, name+"="+value)
	}
	process["env"] = vars
	spec["root"] = map[string]any{"path": root}
	linux := spec["linux"].(map[string]any)
	var namespaces []any
	for _, n := range linux["namespaces"].([]any) {
		if n.(map[string]any)["type"] != "network" {
			namespaces = append(namespaces, n)
		}
	}
	linux["namespaces"] = namespaces
	if doc, err = json.Marshal(spec); err == nil {
		err = os.WriteFile(filepath.Join(bundle, "config.json"), doc, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &container{state: filepath.Join(bundle, "state"), id: filepath.Base(bundle), ended: make(chan error, 1), output: new(lockedBuffer)}
	cmd := exec.Command("runc", "--root", c.state, "run", "--bundle", bundle, c.id)
	cmd.Stdout, cmd.Stderr = c.output, c.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { c.ended <- cmd.Wait(); close(gone) }()
	t.Cleanup(func() {
		exec.Command("runc", "--root", c.state, "delete", "--force", c.id).Run()
		<-gone
	})
	return c
}

func (c *container) kill(t *testing.T, signal string) {
	t.Helper()
	if out, err := exec.Command("runc", "--root", c.state, "kill", c.id, signal).CombinedOutput(); err != nil {
		t.Fatalf("runc kill: %v\n%s", err, out)
	}
}

// status returns a field of /proc/PID/status of the container's first process.
func (c *container) status(t *testing.T, key string) string {
	t.Helper()
	out, err := exec.Command("runc", "--root", c.state, "state", c.id).Output()
	var state struct{ Pid int }
	if err == nil {
		err = json.Unmarshal(out, &state)
	}
	if err != nil {
		t.Fatalf("runc state: %v\n%s", err, out)
	}
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", state.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(doc)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return ""
}

// debian returns a replacement of the base image of that name: what debootstrap
// installs from Debian's mirror. It is cached in the user's cache folder.
func debian(t *testing.T) string {
	t.Helper()
	return makeLayout(t, v1.Config{Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}, debianRoot(t))
}

// debianRoot returns the path of a tar archive of a minimal Debian.
func debianRoot(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("debootstrap"); err != nil {
		t.Skip("needs debootstrap in PATH: apt-get install debootstrap")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(cache, "release", "buildkit", "debian-bookworm.tar")
	if _, err := os.Stat(kept); err == nil {
		return kept
	}
	root := filepath.Join(tempDir(t), "debian")
	command(t, nil, "debootstrap", "--variant=minbase", "bookworm", root, "http://deb.debian.org/debian")
	made := filepath.Join(tempDir(t), "debian.tar")
	command(t, nil, "tar", "-c", "--numeric-owner", "--sort=name", "-C", root, "-f", made,
		"--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./etc/resolv.conf",
		"--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "--exclude=./usr/share/doc/*", "--exclude=./usr/share/locale/*", ".")
	// A cache that can't be written is ignored.
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err == nil {
		if content, err := os.ReadFile(made); err == nil && os.WriteFile(kept+".new", content, 0o644) == nil {
			os.Rename(kept+".new", kept)
		}
	}
	return made
}

// golang returns a replacement of the base image of that name: Debian and the Go of
// this machine. It has a warm build cache, so that six builds don't compile the
// standard library six times; the apps need no other modules.
func golang(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs Go in PATH")
	}
	goroot := strings.TrimSpace(command(t, nil, "go", "env", "GOROOT"))
	top := tempDir(t)
	warm := []string{"GOCACHE=" + filepath.Join(top, "root/.cache/go-build"), "GOFLAGS=", "CGO_ENABLED=0"}
	command(t, warm, "go", "build", "-trimpath", "-buildvcs=false", "-o", tempDir(t)+"/", "./apps/internal-api", "./apps/public-api", "./apps/web-admin")
	made := filepath.Join(tempDir(t), "go.tar")
	command(t, nil, "tar", "-c", "--numeric-owner", "--owner=0", "--group=0", "--sort=name", "-C", top, "-f", made, "root")
	command(t, nil, "tar", "-r", "--numeric-owner", "--owner=0", "--group=0", "--sort=name", "-C", path.Dir(goroot), "-f", made,
		"--transform", "s,^"+path.Base(goroot)+",usr/local/go,",
		"--exclude=testdata", "--exclude=*_test.go", "--exclude="+path.Base(goroot)+"/test", "--exclude="+path.Base(goroot)+"/doc", "--exclude="+path.Base(goroot)+"/api",
		path.Base(goroot))
	return makeLayout(t, v1.Config{Env: []string{
		"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOPATH=/go", "GOTOOLCHAIN=local",
	}}, debianRoot(t), made)
}

// makeLayout writes an OCI layout with the layers of tar archives.
func makeLayout(t *testing.T, config v1.Config, layers ...string) string {
	t.Helper()
	var contents [][]byte
	for _, layer := range layers {
		content, err := os.ReadFile(layer)
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, content)
	}
	dir := tempDir(t)
	if err := saveImage(dir, runtime.GOARCH, config, contents...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// command runs a program in the repository and returns its output.
func command(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = repository, append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, tail(string(out), 2000), tail(stderr.String(), 2000))
	}
	return string(out)
}

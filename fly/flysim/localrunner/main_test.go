//go:build unix

package localrunner

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/microbima/release/fly/flysim"
)

// The images of these tests contain the test binary: as a machine's program it
// is a small server.
func TestMain(m *testing.M) {
	switch os.Getenv("LOCALRUNNER_TEST_ROLE") {
	case "server":
		runServer()
	case "owner":
		ownUntilKilled()
	default:
		os.Exit(m.Run())
	}
}

// runServer is the program in the images. Requests and env vars control it:
// CHILD_PORT starts a child that listens there (PORT: on the same port), DAEMON puts the
// child into its own session, STUBBORN ignores signals, ANY_PORT listens on a port other
// than PORT.
func runServer() {
	if code, err := strconv.Atoi(os.Getenv("EXIT")); err == nil {
		fmt.Println("about to end")
		fmt.Fprintln(os.Stderr, "with", code)
		os.Exit(code)
	}
	if port := os.Getenv("CHILD_PORT"); port != "" {
		if port == "PORT" {
			port = os.Getenv("PORT")
		}
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "CHILD_PORT=", "ANY_PORT=", "PORT="+port)
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: os.Getenv("DAEMON") != ""}
		if err := child.Start(); err != nil {
			panic(err)
		}
	}
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getenv("FLY_MACHINE_ID")) })
	mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(os.Environ()) })
	mux.HandleFunc("/args", func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(os.Args) })
	mux.HandleFunc("/dir", func(w http.ResponseWriter, r *http.Request) { d, _ := os.Getwd(); fmt.Fprint(w, d) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "well") })
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "held")
		_ = http.NewResponseController(w).Flush()
		<-release
		fmt.Fprintln(w, "released")
	})
	server := &http.Server{Handler: mux}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range signals {
			fmt.Println("got", s)
			if os.Getenv("STUBBORN") == "" {
				close(release) // open requests end while the server shuts down
				_ = server.Shutdown(context.Background())
				os.Exit(0)
			}
		}
	}()
	port := os.Getenv("PORT")
	if os.Getenv("ANY_PORT") != "" {
		port = "0"
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("HOST"), port))
	if err != nil {
		fmt.Println(err)
		os.Exit(98)
	}
	fmt.Println("listening")
	_ = server.Serve(listener)
	select {} // the signal handler exits
}

// ownUntilKilled opens a Runner and starts a machine, for tests that kill the
// owner.
func ownUntilKilled() {
	runner, err := Open(os.Args[1], Options{})
	if err != nil {
		panic(err)
	}
	p, err := runner.Start(context.Background(), flysim.Instance{App: "shop", ID: "m1", Config: json.RawMessage(os.Args[2])})
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Addr(0))
	select {}
}

func openRunner(t *testing.T, dir string) *Runner {
	t.Helper()
	runner, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runner.Close(); err != nil {
			t.Error(err)
		}
	})
	return runner
}

// An entry is a file of an image; Type is that of its tar header.
type entry struct {
	Name, Content, Link string
	Type                byte
	Mode                int64
}

func layerOf(t *testing.T, entries ...entry) v1.Layer {
	t.Helper()
	archive, err := archiveOf(entries...)
	if err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

func archiveOf(entries ...entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.Type == 0 {
			e.Type = tar.TypeReg
		}
		if e.Mode == 0 {
			e.Mode = 0o755
		}
		h := &tar.Header{Name: e.Name, Typeflag: e.Type, Linkname: e.Link, Mode: e.Mode, Size: int64(len(e.Content))}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// thisBinary returns a layer with the running test binary as /app/server. It is
// large: its digest is computed once, and it is not compressed.
var thisBinary = sync.OnceValues(func() (v1.Layer, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	archive, err := archiveOf(entry{Name: "/app/server", Content: string(b)}, entry{Name: "app/data/motd", Content: "hello", Mode: 0o644})
	return static.NewLayer(archive, types.OCIUncompressedLayer), err
})

// imageOf returns an image for this platform.
func imageOf(t *testing.T, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	i, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = runtime.GOOS, runtime.GOARCH, config
	if i, err = mutate.ConfigFile(i, file); err != nil {
		t.Fatal(err)
	}
	return i
}

func serverImage(t *testing.T) v1.Image {
	t.Helper()
	program, err := thisBinary()
	if err != nil {
		t.Fatal(err)
	}
	return imageOf(t, v1.Config{
		Entrypoint: []string{"/app/server"},
		Env:        []string{"LOCALRUNNER_TEST_ROLE=server", "PATH=/app:/usr/bin", "DATA=/app/data", "HOME=/root"},
		WorkingDir: "/app",
	}, program)
}

// pushImage pushes image and returns its reference with digest.
func pushImage(t *testing.T, runner *Runner, repository string, image v1.Image) string {
	t.Helper()
	ref, err := name.NewTag(runner.Registry()+"/"+repository+":latest", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return ref.Context().Digest(digest.String()).String()
}

func pushServer(t *testing.T, runner *Runner) string {
	t.Helper()
	return pushImage(t, runner, "shop", serverImage(t))
}

func configOf(t *testing.T, image string, env map[string]string) json.RawMessage {
	t.Helper()
	doc, err := json.Marshal(map[string]any{"image": image, "env": env, "guest": map[string]int{"memory_mb": 512}})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// startAndWait starts a machine and waits until it listens.
func startAndWait(t *testing.T, runner *Runner, id, image string, env map[string]string) flysim.Process {
	t.Helper()
	p, err := runner.Start(t.Context(), flysim.Instance{App: "shop", ID: id, Region: "ord", InstanceID: "01V", Group: "web",
		Config: configOf(t, image, env), Secrets: map[string]string{"TOKEN": "s3cret"}})
	if err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return isListening(p.Addr(8080)) })
	return p
}

func isListening(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// waitUntil polls ok until it returns true.
func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came true")
		}
	}
}

// connectionEnd returns a channel that is closed when the server at addr has ended.
func connectionEnd(t *testing.T, addr string) <-chan struct{} {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, c)
		c.Close()
		close(done)
	}()
	return done
}

func awaitDone(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal(what + " never happened")
	}
}

func httpGet(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

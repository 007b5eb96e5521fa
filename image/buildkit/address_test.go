package buildkit_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"

	"github.com/microbima/release/image/buildkit"
)

// A fakeEngine has the parts of a Docker Engine's API that a builder uses: its info,
// and two endpoints that lead to a BuildKit, here a real one.
type fakeEngine struct {
	d    *daemon
	info string
	t    *testing.T
}

func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var backend net.Conn
	var err error
	switch path := r.URL.Path; {
	case path == "/_ping":
		w.Header().Set("Api-Version", "1.52")
		return
	case strings.HasSuffix(path, "/info"): // after the API version
		io.WriteString(w, e.info)
		return
	case path == "/grpc":
		backend, err = net.Dial("unix", strings.TrimPrefix(e.d.address, "unix://"))
	case path == "/session":
		var c *client.Client
		if c, err = client.New(context.Background(), e.d.address); err == nil {
			defer c.Close()
			meta := map[string][]string{}
			for key, values := range r.Header {
				if strings.HasPrefix(key, "X-Docker-") {
					meta[key] = values
				}
			}
			backend, err = c.Dialer()(context.Background(), r.Header.Get("Upgrade"), meta)
		}
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer backend.Close()
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		e.t.Error(err)
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
	done := make(chan bool, 2)
	go func() { io.Copy(backend, conn); done <- true }()
	go func() { io.Copy(conn, backend); done <- true }()
	<-done
}

const containerdInfo = `{"ServerVersion": "29.1.0", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}`

// The BuildKit in a Docker Engine builds like any other if the Engine stores images in
// containerd.
func TestBuild_DockerEngine(t *testing.T) {
	e := &fakeEngine{d: startBuildkitd(t, ""), info: containerdInfo, t: t}
	srv := httptest.NewUnstartedServer(e)
	socket := filepath.Join(tempDir(t), "docker.sock")
	var err error
	if srv.Listener, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(srv.CloseClientConnections)
	t.Cleanup(srv.Close)

	b := e.d.newBuilder(t)
	b.Address = buildkit.Find(t.Context(), "", func(name string) string { return map[string]string{"DOCKER_HOST": "unix://" + socket}[name] })
	src := newSource(t, map[string]string{"Dockerfile": "FROM base:1\nCOPY a /a\nRUN cat /a > /b\n", "a": "through an Engine"})
	req, _ := newRequest(t, newRegistry(t))
	if err := b.Ready(t.Context(), req.Recipe); err != nil {
		t.Fatal(err)
	}
	img, _ := pull(t, build(t, b, src, req).Image)
	if got := readImageFile(t, img, "b"); got != "through an Engine" {
		t.Errorf("/b in the image is %q", got)
	}
	e.info = `{"ServerVersion": "20.10.24", "DriverStatus": [["Backing Filesystem", "extfs"]]}`
	if err := b.Ready(t.Context(), req.Recipe); err == nil || !strings.Contains(err.Error(), "Docker Engine 20.10.24") || !strings.Contains(err.Error(), "containerd-snapshotter") {
		t.Errorf("an Engine that can't push: %v", err)
	}
}

func TestFind(t *testing.T) {
	for title, test := range map[string]struct {
		flag string
		env  map[string]string
		want string
	}{
		"the flag wins":      {"tcp://a:1", map[string]string{"BUILDKIT_HOST": "tcp://b:1", "DOCKER_HOST": "tcp://c:1"}, "tcp://a:1"},
		"then BUILDKIT_HOST": {"", map[string]string{"BUILDKIT_HOST": "tcp://b:1", "DOCKER_HOST": "tcp://c:1"}, "tcp://b:1"},
		"then DOCKER_HOST":   {"", map[string]string{"DOCKER_HOST": "tcp://c:1"}, "docker+tcp://c:1"},
	} {
		if got := buildkit.Find(t.Context(), test.flag, func(name string) string { return test.env[name] }); got != test.want {
			t.Errorf("%s: %q, want %q", title, got, test.want)
		}
	}
	for address, want := range map[string]string{
		"docker+unix:///nowhere/docker.sock": "the Docker Engine at unix:///nowhere/docker.sock does not answer",
		"docker+ssh://somewhere":             "must be unix:///PATH or tcp://HOST:PORT",
		"docker+tcp://127.0.0.1:1":           "the Docker Engine at tcp://127.0.0.1:1 does not answer",
	} {
		b := &buildkit.Builder{Address: address}
		src := newSource(t, map[string]string{"Dockerfile": "FROM scratch\n"})
		req, _ := newRequest(t, "127.0.0.1:1")
		if err := b.Ready(t.Context(), req.Recipe); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", address, err, want)
		}
		if err := b.Test(t.Context(), src, req); err == nil {
			t.Errorf("%s: Test returned no error", address)
		}
	}
}

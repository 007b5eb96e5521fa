package buildkit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
)

// engine begins the address of a Docker Engine, which has a BuildKit inside:
// docker+unix:///var/run/docker.sock, docker+tcp://127.0.0.1:2375.
const engine = "docker+"

// dockerSocket is where an Engine is if nobody says otherwise.
const dockerSocket = "unix:///var/run/docker.sock"

// Find is the address of the BuildKit to use: the one that the flag says, else
// BUILDKIT_HOST, else the Docker Engine of DOCKER_HOST, else the one of this
// machine, if it answers. "" is none.
func Find(ctx context.Context, flag string, getenv func(string) string) string {
	if flag != "" {
		return flag
	}
	if host := getenv("BUILDKIT_HOST"); host != "" {
		return host
	}
	if host := getenv("DOCKER_HOST"); host != "" {
		return engine + host
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := ask(ctx, dockerSocket); err != nil {
		return ""
	}
	return engine + dockerSocket
}

// dial is how to connect to an address: by the client's own ways, or through an
// Engine's two doors.
func dial(address string) (string, []client.ClientOpt, error) {
	host, ok := strings.CutPrefix(address, engine)
	if !ok {
		return address, nil, nil
	}
	if _, _, err := endpoint(host); err != nil {
		return "", nil, err
	}
	return "", []client.ClientOpt{
		client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return upgrade(ctx, host, "/grpc", "h2c", nil)
		}),
		client.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return upgrade(ctx, host, "/session", proto, meta)
		}),
	}, nil
}

func endpoint(host string) (network, address string, err error) {
	u, err := url.Parse(host)
	switch {
	case err == nil && u.Scheme == "unix":
		return "unix", u.Path, nil
	case err == nil && u.Scheme == "tcp" && u.Host != "":
		return "tcp", u.Host, nil
	}
	return "", "", fmt.Errorf("Docker Engine at %s: it should be unix:///PATH or tcp://HOST:PORT; for others, run a BuildKit of its own there and start the worker with --buildkit ADDRESS", host)
}

// upgrade is a connection to what is behind a path of an Engine.
func upgrade(ctx context.Context, host, path, proto string, meta map[string][]string) (_ net.Conn, err error) {
	network, address, err := endpoint(host)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
		defer conn.SetDeadline(time.Time{})
	}
	req, err := http.NewRequest(http.MethodPost, "http://docker"+path, nil)
	if err != nil {
		return nil, err
	}
	for key, values := range meta {
		req.Header[http.CanonicalHeaderKey(key)] = values
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", proto)
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	read := bufio.NewReader(conn)
	res, err := http.ReadResponse(read, req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("Docker Engine at %s: POST %s: %s", host, path, res.Status)
	}
	return &upgraded{conn, read}, nil
}

// An upgraded connection has been read from already.
type upgraded struct {
	net.Conn
	read *bufio.Reader
}

func (u *upgraded) Read(p []byte) (int, error) { return u.read.Read(p) }

// An about is what an Engine says of itself.
type about struct {
	ServerVersion string
	DriverStatus  [][2]string
}

func ask(ctx context.Context, host string) (a about, err error) {
	network, address, err := endpoint(host)
	if err != nil {
		return a, err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/info", nil)
	if err != nil {
		return a, err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return a, errors.New(res.Status)
	}
	return a, json.NewDecoder(res.Body).Decode(&a)
}

// engineCan says why an Engine's BuildKit could not push what it builds, or nil
// for any other BuildKit.
func (b *Builder) engineCan(ctx context.Context) error {
	host, ok := strings.CutPrefix(b.Address, engine)
	if !ok {
		return nil
	}
	a, err := ask(ctx, host)
	if err != nil {
		return &awayError{fmt.Sprintf("Docker Engine at %s does not answer: %v; is it running there, and may this worker's user connect to it?", host, err), err}
	}
	for _, status := range a.DriverStatus {
		if status[0] == "driver-type" && strings.HasPrefix(status[1], "io.containerd.snapshotter.") {
			return nil
		}
	}
	return fmt.Errorf("Docker Engine %s at %s keeps images where its BuildKit can neither push them from nor attest them: "+
		`have it keep them in containerd, with {"features": {"containerd-snapshotter": true}} in its daemon.json and a restart (Engine 25 or later); `+
		"or run a BuildKit of its own, docker run --detach --privileged --name buildkitd moby/buildkit, and start the worker with --buildkit docker-container://buildkitd", a.ServerVersion, host)
}

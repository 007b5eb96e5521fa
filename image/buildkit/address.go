package buildkit

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	docker "github.com/moby/moby/client"
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
	e, err := engineAt(dockerSocket)
	if err != nil {
		return ""
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := e.Ping(ctx, docker.PingOptions{}); err != nil {
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
	e, err := engineAt(host)
	if err != nil {
		return "", nil, err
	}
	return "", []client.ClientOpt{
		client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return e.DialHijack(ctx, "/grpc", "h2c", nil)
		}),
		client.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return e.DialHijack(ctx, "/session", proto, meta)
		}),
	}, nil
}

// engineAt is a client of an Engine.
func engineAt(host string) (*docker.Client, error) {
	if !strings.HasPrefix(host, "unix://") && !strings.HasPrefix(host, "tcp://") {
		return nil, fmt.Errorf("the Docker Engine at %s: it should be unix:///PATH or tcp://HOST:PORT; for others, run a BuildKit of its own there and start the worker with --buildkit ADDRESS", host)
	}
	c, err := docker.New(docker.WithHost(host))
	if err != nil {
		return nil, fmt.Errorf("the Docker Engine at %s: %w", host, err)
	}
	return c, nil
}

// engineCan says why an Engine's BuildKit could not push what it builds, or nil
// for any other BuildKit.
func (b *Builder) engineCan(ctx context.Context) error {
	host, ok := strings.CutPrefix(b.Address, engine)
	if !ok {
		return nil
	}
	e, err := engineAt(host)
	if err != nil {
		return err
	}
	defer e.Close()
	said, err := e.Info(ctx, docker.InfoOptions{})
	if err != nil {
		return &awayError{fmt.Sprintf("the Docker Engine at %s does not answer: %v; is it running there, and may this worker's user connect to it?", host, err), err}
	}
	for _, status := range said.Info.DriverStatus {
		if status[0] == "driver-type" && strings.HasPrefix(status[1], "io.containerd.snapshotter.") {
			return nil
		}
	}
	return fmt.Errorf("the Docker Engine %s at %s keeps images where its BuildKit can neither push them from nor attest them: "+
		`have it keep them in containerd, with {"features": {"containerd-snapshotter": true}} in its daemon.json and a restart (Engine 25 or later); `+
		"or run a BuildKit of its own, docker run --detach --privileged --name buildkitd moby/buildkit, and start the worker with --buildkit docker-container://buildkitd", said.Info.ServerVersion, host)
}

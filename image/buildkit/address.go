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

// enginePrefix begins the address of a Docker Engine, which has a BuildKit inside:
// docker+unix:///var/run/docker.sock, docker+tcp://127.0.0.1:2375.
const enginePrefix = "docker+"

// dockerSocket is the default address of a Docker Engine.
const dockerSocket = "unix:///var/run/docker.sock"

// Find returns the address of the BuildKit to use: that of the flag, of
// BUILDKIT_HOST, of the Docker Engine in DOCKER_HOST, or of this machine's Docker
// Engine if it answers within a second. It returns "" if there is none.
func Find(ctx context.Context, flag string, getenv func(string) string) string {
	if flag != "" {
		return flag
	}
	if host := getenv("BUILDKIT_HOST"); host != "" {
		return host
	}
	if host := getenv("DOCKER_HOST"); host != "" {
		return enginePrefix + host
	}
	e, err := newEngineClient(dockerSocket)
	if err != nil {
		return ""
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := e.Ping(ctx, docker.PingOptions{}); err != nil {
		return ""
	}
	return enginePrefix + dockerSocket
}

// dialOptions returns the address and the options for a client of the BuildKit at
// address. The BuildKit of a Docker Engine is reached through two endpoints of the
// Engine's API.
func dialOptions(address string) (string, []client.ClientOpt, error) {
	host, ok := strings.CutPrefix(address, enginePrefix)
	if !ok {
		return address, nil, nil
	}
	e, err := newEngineClient(host)
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

// newEngineClient returns a client of the Docker Engine at host.
func newEngineClient(host string) (*docker.Client, error) {
	if !strings.HasPrefix(host, "unix://") && !strings.HasPrefix(host, "tcp://") {
		return nil, fmt.Errorf("the Docker Engine at %s: must be unix:///PATH or tcp://HOST:PORT; for another kind of address, run a separate BuildKit there and start the worker with --buildkit ADDRESS", host)
	}
	c, err := docker.New(docker.WithHost(host))
	if err != nil {
		return nil, fmt.Errorf("the Docker Engine at %s: %w", host, err)
	}
	return c, nil
}

// checkEngine returns an error if the BuildKit of a Docker Engine can't push the
// images it builds. It returns nil for any other BuildKit.
func (b *Builder) checkEngine(ctx context.Context) error {
	host, ok := strings.CutPrefix(b.Address, enginePrefix)
	if !ok {
		return nil
	}
	e, err := newEngineClient(host)
	if err != nil {
		return err
	}
	defer e.Close()
	res, err := e.Info(ctx, docker.InfoOptions{})
	if err != nil {
		return &unreachableError{fmt.Sprintf("the Docker Engine at %s does not answer: %v; is it running there, and may this worker's user connect to it?", host, err), err}
	}
	for _, status := range res.Info.DriverStatus {
		if status[0] == "driver-type" && strings.HasPrefix(status[1], "io.containerd.snapshotter.") {
			return nil
		}
	}
	return fmt.Errorf("the Docker Engine %s at %s stores images where its BuildKit can neither push nor attest them: "+
		`store them in containerd, with {"features": {"containerd-snapshotter": true}} in its daemon.json and a restart (Engine 25 or later); `+
		"or run a separate BuildKit, docker run --detach --privileged --name buildkitd moby/buildkit, and start the worker with --buildkit docker-container://buildkitd", res.Info.ServerVersion, host)
}

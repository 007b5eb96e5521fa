package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"os/user"

	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"

	"github.com/microbima/release/client"
)

// defaultTemporal is the address of the Temporal that release dev runs.
const defaultTemporal = "127.0.0.1:7233"

// ClientOptions returns the settings from the environment and from Temporal's configuration
// file. Without an address it uses those of the running release dev.
func ClientOptions(w *World) (client.Options, error) {
	temporal, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{EnvLookup: w.Env})
	if err != nil {
		return client.Options{}, fmt.Errorf("read the settings of Temporal: %w", err)
	}
	dev := ReadDevFile(w.Env)
	if temporal.HostPort == "" {
		temporal.HostPort = defaultTemporal
		if dev != nil && dev.Temporal != "" {
			temporal.HostPort = dev.Temporal
		}
	}
	temporal.Identity = "release@" + userName(w.Env)
	o := client.Options{
		Temporal: temporal, UI: w.Env.Get("TEMPORAL_UI_ADDRESS"), WorkerTimeout: w.WorkerTimeout,
		Warn: func(message string) { w.Warn("%s", message) }, Now: w.Now,
	}
	if o.UI == "" && dev != nil && dev.Temporal == temporal.HostPort {
		o.UI = dev.UI
	}
	return o, nil
}

// dialTemporal connects to Temporal. The connection stays open until the process exits.
func dialTemporal(ctx context.Context, w *World) (*client.Client, error) {
	o, err := ClientOptions(w)
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, o)
}

// connectWorker connects to Temporal for a worker, which logs to logger.
func connectWorker(ctx context.Context, w *World, logger *slog.Logger) (*client.Client, error) {
	o, err := ClientOptions(w)
	if err != nil {
		return nil, err
	}
	o.Temporal.Logger = log.NewStructuredLogger(logger)
	return client.Dial(ctx, o)
}

// isDevTemporal reports whether address is the Temporal of the running release dev, which
// has its worker on this machine.
func isDevTemporal(env Environ, address string) bool {
	dev := ReadDevFile(env)
	return dev != nil && dev.Temporal == address
}

// operatorName returns by, or else the name of the user in git or the system.
func operatorName(ctx context.Context, w *World, by string) string {
	if by != "" {
		return by
	}
	cmd := exec.CommandContext(ctx, "git", "config", "--get", "user.name")
	cmd.Dir, cmd.Env = w.Dir, w.Env
	out, err := cmd.Output()
	if err != nil {
		return userName(w.Env)
	}
	return cmp.Or(string(bytes.TrimSpace(out)), userName(w.Env))
}

// userName returns the name of the user in the system, or "unknown".
func userName(env Environ) string {
	name := env.Get("USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	return cmp.Or(name, "unknown")
}

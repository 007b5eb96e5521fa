package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"

	"github.com/microbima/release/client"
	"github.com/microbima/release/image/buildkit"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

type workerCommand struct {
	*World
	only, registry  string
	builds          int
	buildkit, cache string
	secrets         []string
}

func newWorker(w *World) *cobra.Command {
	c := workerCommand{World: w}
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run a worker for a Temporal and a Fly elsewhere",
		Long: `Worker runs the workflows of releases, runs tests, builds images and changes machines.
Any number of workers may run. If one dies nothing is lost: another continues its
work.

A worker needs a Temporal (TEMPORAL_ADDRESS and so on), git, and a Fly token for every
Fly app of the projects: FLY_API_TOKEN, from "fly tokens create org". To build, it
needs a Go toolchain in PATH, or a BuildKit for Dockerfiles: that of --buildkit, of
BUILDKIT_HOST, or of a Docker Engine.

Images are pushed to Fly's registry with that token, and to others with the logins of
Docker's settings. A Dockerfile may mount secrets: variables of this worker that
--build-secret names and release.toml asks for.

The worker that changes production need not run a repository's tests: --only release
runs the workflows and everything that calls Fly, --only release-build runs checkouts,
tests and builds, and pushes images.

A worker needs no local stack: the slim build (go build -tags slim) is enough.`,
		Example: `  release worker
  release worker --only release
  release worker --only release-build --builds 4 --registry registry.example.com/shop
  release worker --buildkit tcp://buildkit:1234 --build-secret NPM_TOKEN`,
		Args: WantArgs(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&c.only, "only", "", "serve only this task `QUEUE`: release or release-build")
	f.IntVar(&c.builds, "builds", 2, "run `N` tests and builds at a time")
	f.StringVar(&c.registry, "registry", "", "push images to this `HOST` or HOST/PATH (default: Fly's own)")
	f.StringVar(&c.buildkit, "buildkit", "", "`ADDRESS` of BuildKit, such as unix:///run/buildkit/buildkitd.sock")
	f.StringVar(&c.cache, "build-cache", string(buildkit.CacheMax), "how much of a build to `KEEP` in the registry for the next one: max, min or off")
	f.StringSliceVar(&c.secrets, "build-secret", nil, "let Dockerfiles mount the environment variable of this `NAME`; may be repeated")
	return cmd
}

func (c workerCommand) run(ctx context.Context) error {
	queues := []string{release.TaskQueue, release.BuildQueue}
	if c.only != "" && !slices.Contains(queues, c.only) {
		return Usage("--only %q must be one of %s", c.only, strings.Join(queues, ", "))
	}
	if c.builds < 1 {
		return Usage("--builds must be 1 or more, got %d", c.builds)
	}
	if err := checkWorkerSystem(runtime.GOOS); err != nil {
		return err
	}
	platform := findPlatform(c.World)
	if platform.Token == "" {
		return errors.New("no Fly token: set FLY_API_TOKEN to one that opens every Fly app of the projects; `fly tokens create org` makes one")
	}
	if err := CheckStateDir(c.Env); err != nil {
		return err
	}
	if err := os.MkdirAll(StateDir(c.Env), 0o700); err != nil {
		return fmt.Errorf("keep checkouts and logs: %w; RELEASE_STATE_DIR chooses another place", err)
	}
	options, err := c.workerOptions(ctx)
	if err != nil {
		return err
	}
	temporal, err := connectWorker(ctx, c.World, workerLogger(c.Stderr, c.Terminal.Stderr))
	if err != nil {
		return err
	}
	defer temporal.Close()
	if err := c.registerSearchAttributes(ctx, temporal); err != nil {
		return err
	}
	if c.only != "" {
		queues = []string{c.only}
	}
	return c.runWorker(ctx, temporal, platform, options, queues)
}

// checkWorkerSystem returns an error for an operating system without support for workers.
// Windows has no process groups, so that processes of cancelled tests and builds would
// continue.
func checkWorkerSystem(system string) error {
	if system != "windows" {
		return nil
	}
	return fmt.Errorf("workers do not run on %s, which has no process groups: run the worker on Linux or macOS; all other commands work here", system)
}

// runWorker runs the worker until ctx is done or a fatal error occurs.
func (c workerCommand) runWorker(ctx context.Context, temporal *client.Client, platform Platform, options WorkerOptions, queues []string) error {
	fatal := make(chan error, 2) // one per queue
	w := worker.New(temporal.SDK(), NewActivities(platform, options), worker.Options{
		Only: c.only, Builds: c.builds, OnFatal: func(err error) {
			select {
			case fatal <- err:
			default:
			}
		},
	})
	err := w.Start()
	if err != nil {
		return temporal.Wrap(ctx, "start a worker", err)
	}
	c.Say("ready: works on %s of namespace %s at %s", strings.Join(queues, " and "), temporal.Namespace(), temporal.Address())
	select {
	case err = <-fatal:
		err = temporal.Wrap(ctx, "the worker cannot continue", err)
	case <-ctx.Done():
		c.Say("stopping: work in hand may finish or is left to another worker")
	}
	w.Stop()
	return err
}

// workerOptions returns the options from the flags and the environment.
func (c workerCommand) workerOptions(ctx context.Context) (o WorkerOptions, err error) {
	o = WorkerOptions{Dir: StateDir(c.Env), Registry: c.registry, Cache: buildkit.Cache(c.cache), Secrets: map[string]string{}}
	if !slices.Contains([]buildkit.Cache{buildkit.CacheMax, buildkit.CacheMin, buildkit.CacheOff}, o.Cache) {
		return o, Usage("--build-cache %q must be max, min or off", c.cache)
	}
	for _, name := range c.secrets {
		value, ok := c.Env.LookupEnv(name)
		if !ok {
			return o, Usage("--build-secret %s: there is no %s in the environment", name, name)
		}
		if strings.HasPrefix(name, "FLY_") || strings.HasPrefix(name, "TEMPORAL_") {
			return o, Usage("--build-secret %s: a Dockerfile of any commit could read it, and it opens more than a build needs", name)
		}
		o.Secrets[name] = value
	}
	if c.only == release.TaskQueue {
		return o, nil
	}
	o.BuildKit = buildkit.Find(ctx, c.buildkit, c.Env.Get)
	o.Environ, err = GoEnvironment(ctx, c.Env, o.Dir)
	if err != nil && o.BuildKit != "" { // BuildKit builds without Go
		c.Warn("%v; this worker builds Dockerfiles only", err)
		o.Environ, err = c.Env, nil
	}
	return o, err
}

// workerLogger returns the logger of a worker: plain lines on a terminal, else JSON lines.
func workerLogger(w io.Writer, isTerminal bool) *slog.Logger {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339TimeEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if isTerminal {
		encoder = zapcore.NewConsoleEncoder(config)
	}
	return slog.New(zapslog.NewHandler(zapcore.NewCore(encoder, zapcore.AddSync(w), zapcore.InfoLevel)))
}

// registerSearchAttributes registers the search attributes. It only warns if the worker
// has no permission, because they may be registered already.
func (c workerCommand) registerSearchAttributes(ctx context.Context, temporal *client.Client) error {
	err := temporal.RegisterSearchAttributes(ctx)
	var denied *serviceerror.PermissionDenied
	var unimplemented *serviceerror.Unimplemented
	if errors.As(err, &denied) || errors.As(err, &unimplemented) {
		c.Warn("this worker may not register search attributes (%v); releases need them: temporal operator search-attribute create --type Keyword --name %s", errors.Unwrap(err), strings.Join(client.SearchAttributes(), " --name "))
		return nil
	}
	return err
}

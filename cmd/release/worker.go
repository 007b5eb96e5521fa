package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"

	"github.com/microbima/release/image/buildkit"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

type workerCommand struct {
	*env
	only, registry  string
	builds          int
	buildkit, cache string
	secrets         []string
}

func newWorker(e *env) *cobra.Command {
	c := workerCommand{env: e}
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Do the work of releases, for a Temporal and a Fly that run elsewhere",
		Long: `Worker does what releases ask for: it keeps their process going, runs tests,
builds images, changes machines. Any number of them may run. One that dies loses
nothing; another goes on with its work.

It needs a Temporal (TEMPORAL_ADDRESS and the others), git, and a Fly token that
opens every Fly app of the projects: FLY_API_TOKEN, as "fly tokens create org"
prints it. Where it builds it needs a Go toolchain in PATH, or a BuildKit for
Dockerfiles: --buildkit, else BUILDKIT_HOST, else a Docker Engine's, where there
is one.

Images go to Fly's registry with that token; to and from others with the logins
of Docker's settings. A Dockerfile may mount secrets: those of this worker's
environment that --build-secret names, and that release.toml asks for.

A worker that may touch production need not be one that runs a repository's
tests: --only release is the process and everything that touches Fly,
--only release-build is checkouts, tests and builds, and pushes images.`,
		Example: `  release worker
  release worker --only release
  release worker --only release-build --builds 4 --registry registry.example.com/shop
  release worker --buildkit tcp://buildkit:1234 --build-secret NPM_TOKEN`,
		Args: args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&c.only, "only", "", "work on this task `QUEUE` only: release or release-build")
	f.IntVar(&c.builds, "builds", 2, "run `N` tests and builds at a time")
	f.StringVar(&c.registry, "registry", "", "push images to this `HOST` or HOST/PATH; Fly's own registry, unless given")
	f.StringVar(&c.buildkit, "buildkit", "", "`ADDRESS` of BuildKit, as unix:///run/buildkit/buildkitd.sock")
	f.StringVar(&c.cache, "build-cache", string(buildkit.CacheMax), "how much of a build to `KEEP` in the registry for the next: max, min or off")
	f.StringSliceVar(&c.secrets, "build-secret", nil, "let Dockerfiles mount what the environment has under this `NAME`; may be given again")
	return cmd
}

func (c workerCommand) run(ctx context.Context) error {
	queues := []string{release.TaskQueue, release.BuildQueue}
	if c.only != "" && !slices.Contains(queues, c.only) {
		return usage("--only %q: there are: %s", c.only, strings.Join(queues, ", "))
	}
	if c.builds < 1 {
		return usage("--builds %d: it must be 1 or more", c.builds)
	}
	place := c.fly()
	if place.Token == "" {
		return errors.New("no Fly token: set FLY_API_TOKEN to one that opens every Fly app of the projects; `fly tokens create org` makes one")
	}
	if err := c.checkStateDir(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.stateDir(), 0o700); err != nil {
		return fmt.Errorf("keep checkouts and logs: %w; RELEASE_STATE_DIR chooses another place", err)
	}
	options, err := c.options(ctx)
	if err != nil {
		return err
	}
	c.logger = workerLog(c.stderr, c.errTerminal)
	s, err := c.temporal(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := c.register(ctx, s); err != nil {
		return err
	}
	broken := make(chan error, 2) // one for each queue
	w := worker.New(s.Client, realActivities(place, options), worker.Options{
		Only: c.only, Builds: c.builds, OnFatal: func(err error) {
			select {
			case broken <- err:
			default:
			}
		},
	})
	if err := w.Start(); err != nil {
		return s.said(ctx, "start a worker", err)
	}
	if c.only != "" {
		queues = []string{c.only}
	}
	c.say("ready: works on %s of namespace %s at %s", strings.Join(queues, " and "), s.namespace, s.address)
	select {
	case err = <-broken:
		err = s.said(ctx, "the worker can't go on", err)
	case <-ctx.Done():
		c.say("stopping: what is in hand may finish or is left to another worker")
	}
	w.Stop()
	return err
}

// options are what the flags and the environment say.
func (c workerCommand) options(ctx context.Context) (o workerOptions, err error) {
	o = workerOptions{dir: c.stateDir(), registry: c.registry, cache: buildkit.Cache(c.cache), secrets: map[string]string{}}
	if !slices.Contains([]buildkit.Cache{buildkit.CacheMax, buildkit.CacheMin, buildkit.CacheOff}, o.cache) {
		return o, usage("--build-cache %q: it should be max, min or off", c.cache)
	}
	for _, name := range c.secrets {
		value, ok := c.LookupEnv(name)
		if !ok {
			return o, usage("--build-secret %s: there is no %s in the environment", name, name)
		}
		if strings.HasPrefix(name, "FLY_") || strings.HasPrefix(name, "TEMPORAL_") {
			return o, usage("--build-secret %s: whoever may change a Dockerfile could read it, and it opens more than a build needs", name)
		}
		o.secrets[name] = value
	}
	if c.only == release.TaskQueue {
		return o, nil
	}
	o.buildkit = buildkit.Find(ctx, c.buildkit, c.getenv)
	o.environ, err = c.toolchain(ctx, o.dir)
	if err != nil && o.buildkit != "" { // it may do without Go
		c.warn("%v; this worker builds Dockerfiles only", err)
		o.environ, err = c.environ, nil
	}
	return o, err
}

// workerLog is what a worker tells its operator: JSON lines for machines that
// collect them, plain ones at a terminal.
func workerLog(w io.Writer, terminal bool) *slog.Logger {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339TimeEncoder
	encoder := zapcore.NewJSONEncoder(config)
	if terminal {
		encoder = zapcore.NewConsoleEncoder(config)
	}
	return slog.New(zapslog.NewHandler(zapcore.NewCore(encoder, zapcore.AddSync(w), zapcore.InfoLevel)))
}

// register adds the search attributes that a namespace lacks. Who may not says
// so and goes on: somebody else may have done it.
func (c workerCommand) register(ctx context.Context, s *server) error {
	call, cancel := context.WithTimeout(ctx, 2*dialLimit)
	defer cancel()
	known, err := s.OperatorService().ListSearchAttributes(call, &operatorservice.ListSearchAttributesRequest{Namespace: s.namespace})
	missing := map[string]enums.IndexedValueType{}
	for _, name := range attributes() {
		if _, ok := known.GetCustomAttributes()[name]; !ok {
			missing[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
		}
	}
	if err == nil && len(missing) > 0 {
		_, err = s.OperatorService().AddSearchAttributes(call, &operatorservice.AddSearchAttributesRequest{
			Namespace: s.namespace, SearchAttributes: missing,
		})
	}
	var denied *serviceerror.PermissionDenied
	var unimplemented *serviceerror.Unimplemented
	if errors.As(err, &denied) || errors.As(err, &unimplemented) {
		c.warn("this worker may not register search attributes (%v); releases need them: temporal operator search-attribute create --type Keyword --name %s", err, strings.Join(attributes(), " --name "))
		return nil
	}
	return s.said(ctx, "register search attributes", err)
}

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/devserver"
	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
)

// Jobs of child processes besides workers.
const (
	beFly      = "fly"
	beTemporal = "temporal"
	bePostgres = "temporal on postgresql"
	beDatabase = "postgresql"
)

// runTemporal runs Temporal on a file, as in release dev.
func (j processJob) runTemporal() (end func() error, err error) {
	s, err := devserver.Start(context.Background(), devserver.Options{Dir: j.Dir, Port: j.Port, UIOff: true, Attributes: searchAttributes()})
	if err != nil {
		return nil, err
	}
	return s.Close, nil
}

// runFly runs a Fly with a journal. It writes a line after its first response.
func (j processJob) runFly() (end func() error, err error) {
	sim := newSlowFly()
	sim.Journal = journalIn(j.Dir)
	if err := sim.Open(); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(j.Port)))
	if err != nil {
		return nil, err
	}
	var first sync.Once
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sim.ServeHTTP(w, r)
		first.Do(func() { fmt.Println("answered") })
	})}
	go func() {
		fmt.Fprintln(os.Stderr, "fly:", server.Serve(l))
		os.Exit(1)
	}()
	return func() error { return nil }, nil
}

func journalIn(dir string) string { return filepath.Join(dir, "fly.json") }

// newSlowFly returns a Fly that is slow enough for kills to interrupt its requests.
func newSlowFly() *flysim.Sim {
	return &flysim.Sim{Behave: machineBehaviour, Latency: flysim.Latency{
		API: 20 * time.Millisecond, Change: 200 * time.Millisecond, Boot: 500 * time.Millisecond, Check: 300 * time.Millisecond,
		Stop: 200 * time.Millisecond, Destroy: 200 * time.Millisecond, Command: time.Second,
	}}
}

// machineBehaviour returns the behaviour of a machine of kinds.
func machineBehaviour(app string, config json.RawMessage) flysim.Behaviour {
	for _, k := range listKinds() {
		for _, env := range k.shop.environments() {
			for _, name := range k.shop.names() {
				is := string(config)
				if app == flyApp(k.name, env, name) && k.behaves != nil && !strings.Contains(is, digestOf(name, commitOf("v1"))) {
					return k.behaves(strings.Contains(is, release.ReleaseCommandGroup))
				}
			}
		}
	}
	return flysim.Behaviour{}
}

// slowGit takes as long as a fetch.
type slowGit struct{ activities.Git }

// Files implements activities.Git.
func (g slowGit) Files(ctx context.Context, url, commit string) (fs.FS, error) {
	if err := sleep.For(ctx, time.Second); err != nil {
		return nil, err
	}
	return g.Git.Files(ctx, url, commit)
}

// slowRecipe takes as long as a build.
type slowRecipe struct{ recipe }

// Build implements activities.Builder.
func (r slowRecipe) Build(ctx context.Context, src image.Source, req image.Request) (image.Built, error) {
	if err := sleep.For(ctx, 2*time.Second); err != nil {
		return image.Built{}, err
	}
	return r.recipe.Build(ctx, src, req)
}

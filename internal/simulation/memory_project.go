package simulation

import (
	"context"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/sleep"
	"github.com/microbima/release/release"
)

// A memoryGit is the project's repository, in memory.
type memoryGit struct{ Case }

// Files implements activities.Git.
func (g memoryGit) Files(_ context.Context, _, commitHash string) (fs.FS, error) {
	files := fstest.MapFS{"release.toml": {Data: []byte(g.formatReleaseTOML())}}
	for _, a := range g.Apps {
		files[a.Name+"/main.go"] = &fstest.MapFile{Data: []byte("package main")}
		for _, e := range g.Environments {
			files["infra/fly/"+a.Name+"/"+e.Name+"/fly.toml"] = &fstest.MapFile{Data: []byte(g.formatFlyTOML(a, e, versionOf(commitHash)))}
		}
	}
	return files, nil
}

// Checkout implements activities.Git.
func (g memoryGit) Checkout(_ context.Context, _, _ string, fn func(string) error) error {
	return fn(".")
}

// Lineage implements activities.Git. The history has no branches.
func (g memoryGit) Lineage(_ context.Context, _, commitHash string, running []string) (release.Lineage, error) {
	var history []string
	for _, v := range versions {
		history = append(history, commitOf(v))
	}
	return StraightLineage(history, commitHash, running), nil
}

// StraightLineage returns the lineage of a commit in a history without branches,
// oldest first. A commit that is not in the history has diverged.
func StraightLineage(history []string, commit string, running []string) release.Lineage {
	lineage := release.Lineage{Running: running}
	var relations []release.Relation
	at := slices.Index(history, commit)
	for _, r := range running {
		switch i := slices.Index(history, r); {
		case r == commit:
			relations = append(relations, release.Same)
		case i < 0 || at < 0:
			relations = append(relations, release.Diverged)
			lineage.RemovedCount++
		case i < at:
			relations = append(relations, release.Forward)
		default:
			relations = append(relations, release.Backward)
			lineage.Newer = &release.Revision{Commit: r}
			lineage.RemovedCount = max(lineage.RemovedCount, i-at)
		}
	}
	lineage.Relation = release.JoinRelations(relations)
	return lineage
}

// A memoryBuilder returns the digest of an image without building it.
type memoryBuilder struct{ Case }

// Build implements activities.Builder.
func (b memoryBuilder) Build(_ context.Context, src image.Source, req image.Request) (image.Built, error) {
	i := slices.IndexFunc(b.Apps, func(a App) bool { return a.Name == req.Name })
	return image.Built{Image: release.Image(req.Repository + "@" + b.Apps[i].imageDigest(versionOf(src.Revision.Commit)))}, nil
}

// Ready implements activities.Builder.
func (memoryBuilder) Ready(context.Context, release.Recipe) error { return nil }

// An edgeTransport answers like Fly's proxy: with 200 if a machine passes its checks,
// else with 503. If no machine runs, it starts those that may be started and waits for
// up to nine seconds.
type edgeTransport struct{ sim *flysim.Sim }

// RoundTrip implements http.RoundTripper.
func (e edgeTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	app, _, _ := strings.Cut(req.URL.Host, ".")
	status := http.StatusServiceUnavailable
	for tries := 0; status != http.StatusOK; tries++ {
		running := false
		for _, m := range e.sim.Machines(app) {
			running = running || isRunning(m) && !m.Cordoned
			if isHealthy(m) && !m.Cordoned {
				status = http.StatusOK
			}
		}
		if status == http.StatusOK || running && tries == 0 || tries > 8 {
			break
		}
		if !running {
			for _, m := range e.sim.Machines(app) {
				e.sim.Wake(app, m.ID)
			}
		}
		if err := sleep.For(req.Context(), time.Second); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: http.NoBody, Request: req}, nil
}

// Identity implements activities.Git.
func (memoryGit) Identity(_ context.Context, url, _ string) (release.Repository, error) {
	return release.Repository{Address: release.NormalizeAddress(url)}, nil
}

package buildkit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/tonistiigi/fsutil"

	"github.com/microbima/release/image"
)

// epoch is the time of all files in an image, so that the same content gives the
// same image on any day. It is 1980, the first year that a zip file can store, for
// steps that use SOURCE_DATE_EPOCH. Some programs read 0 as no time.
const epoch = 315532800

// A solve is one build request to BuildKit.
type solve struct {
	req          image.Request
	platform     string
	files        *checkout
	opt          client.SolveOpt
	log          *syncWriter
	progress     *progress
	largeContext int64 // bytes
	notes        []string
	solveErr     error // the error of solveDockerfile
}

// prepare returns a solve that pushes nothing. The caller closes it.
func (b *Builder) prepare(src image.Source, req image.Request) (_ *solve, err error) {
	if err := b.checkSecrets(req.Recipe); err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	s := &solve{req: req, platform: cmp.Or(req.Platform, req.Recipe.PlatformOrDefault()), largeContext: cmp.Or(b.Large, 1<<30)}
	s.log = &syncWriter{out: cmp.Or[io.Writer](req.Log, io.Discard)}
	if s.files, err = openCheckout(src, req); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err = s.files.checkTarget(req); err != nil {
		return nil, err
	}
	secrets := map[string][]byte{} // only those that the recipe names
	for _, name := range req.Recipe.Secrets {
		secrets[name] = []byte(b.Secrets[name])
	}
	s.progress = newProgress(secrets)
	s.opt = client.SolveOpt{
		FrontendAttrs: s.frontendAttrs(src),
		SharedKey:     cmp.Or(req.Origin, req.Name), // only changes since the last context with this key are sent
		Session:       []session.Attachable{b.authProvider(), secretsprovider.FromMap(secrets)},
	}
	s.opt.LocalMounts = map[string]fsutil.FS{}
	if s.opt.LocalMounts["context"], err = s.files.contextFS(); err != nil {
		return nil, err
	}
	if s.opt.LocalMounts["dockerfile"], err = s.files.dockerfileFS(); err != nil {
		return nil, err
	}
	s.opt.LocalFilterOpt = s.noteLargeContext
	return s, s.addLayouts(b.Layouts)
}

func (s *solve) close() error { return s.files.close() }

// frontendAttrs returns the attributes for the Dockerfile frontend.
func (s *solve) frontendAttrs(src image.Source) map[string]string {
	recipe := s.req.Recipe
	attrs := map[string]string{
		"filename":                    recipe.Dockerfile,
		"platform":                    s.platform,
		"build-arg:SOURCE_DATE_EPOCH": strconv.Itoa(epoch),
	}
	if recipe.BuildTarget != "" {
		attrs["target"] = recipe.BuildTarget
	}
	for name, value := range recipe.Args {
		attrs["build-arg:"+name] = value
	}
	if source := image.Annotations(s.req, src.Revision)[annotationSource]; source != "" {
		attrs["vcs:source"] = source
	}
	if src.Revision.Commit != "" {
		attrs["vcs:revision"] = src.Revision.Commit
	}
	return attrs
}

const annotationSource = "org.opencontainers.image.source"

// addLayouts makes images in OCI layouts available to FROM, by name.
func (s *solve) addLayouts(layouts map[string]string) error {
	for name, dir := range layouts {
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			return fmt.Errorf("OCI layout of %s: %w", name, err)
		}
		manifest, err := index.IndexManifest()
		if err != nil || len(manifest.Manifests) != 1 {
			return fmt.Errorf("OCI layout of %s in %s: must have one image: %w", name, dir, err)
		}
		store, err := contentlocal.NewStore(dir)
		if err != nil {
			return fmt.Errorf("OCI layout of %s: %w", name, err)
		}
		if s.opt.OCIStores == nil {
			s.opt.OCIStores = map[string]content.Store{}
		}
		id := "layout" + strconv.Itoa(len(s.opt.OCIStores))
		s.opt.OCIStores[id] = store
		s.opt.FrontendAttrs["context:"+name] = "oci-layout://" + id + "@" + manifest.Manifests[0].Digest.String()
	}
	return nil
}

// run runs the solve and writes its progress to the log. When ctx ends, BuildKit
// stops the build.
func (s *solve) run(ctx context.Context, b *Builder) (map[string]string, error) {
	c, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	statuses := make(chan *client.SolveStatus)
	displayed := s.progress.display(statuses, s.log)
	response, err := c.Build(ctx, s.opt, "release", s.solveDockerfile, statuses)
	<-displayed
	switch {
	case s.solveErr != nil && ctx.Err() == nil:
		return nil, s.explain(b, s.solveErr)
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, s.explain(b, err)
	}
	return response.ExporterResponse, nil
}

// solveDockerfile builds the Dockerfile and checks the result before BuildKit pushes
// it.
func (s *solve) solveDockerfile(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
	result, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: c.BuildOpts().Opts, Evaluate: true})
	if err == nil {
		err = s.checkPlatform(result.Metadata)
	}
	if err != nil {
		s.solveErr = err // client.Build returns an error with its text only
	}
	return result, err
}

// checkPlatform returns an *image.BuildError for an image of another platform than
// the requested one. BuildKit writes the requested platform into every image, so the
// config of the base image is compared as well.
func (s *solve) checkPlatform(metadata map[string][]byte) error {
	want, err := platforms.Parse(s.platform)
	if err != nil {
		return fmt.Errorf("platform %q: %w", s.platform, err)
	}
	for key, value := range metadata {
		if kind, _, _ := strings.Cut(key, "/"); kind != exptypes.ExporterImageConfigKey && kind != exptypes.ExporterImageBaseConfigKey {
			continue
		}
		var config struct{ OS, Architecture string }
		if err := json.Unmarshal(value, &config); err != nil {
			return fmt.Errorf("read the config of the image: %w", err)
		}
		if has := config.OS + "/" + config.Architecture; has != "/" && (config.OS != want.OS || config.Architecture != want.Architecture) {
			return s.buildErrorf("%s builds an image for %s, but %s is needed: use a base image for that platform, without --platform in the last FROM, or set another platform", s.req.Recipe.Dockerfile, has, s.platform)
		}
	}
	return nil
}

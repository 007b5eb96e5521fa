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

// epoch is when everything in an image was made: images of the same content are
// the same on all days. It is 1980, the first year that a zip file can say, for
// steps that take SOURCE_DATE_EPOCH as an argument; to some programs 0 is no time
// at all.
const epoch = 315532800

// A solve is one question to BuildKit.
type solve struct {
	req      image.Request
	platform string
	files    *checkout
	opt      client.SolveOpt
	log      *lines
	seen     *watch
	large    int64
	notes    []string
	wrong    error // what was found wrong with the result before it was exported
}

// prepare is a solve that exports nothing. Its caller closes it.
func (b *Builder) prepare(src image.Source, req image.Request) (_ *solve, err error) {
	if err := b.knows(req.Recipe); err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	s := &solve{req: req, platform: cmp.Or(req.Platform, req.Recipe.On()), large: cmp.Or(b.Large, 1<<30)}
	s.log = &lines{out: cmp.Or[io.Writer](req.Log, io.Discard)}
	if s.files, err = open(src, req); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err = s.files.knows(req); err != nil {
		return nil, err
	}
	given := map[string][]byte{} // only what the recipe names
	for _, name := range req.Recipe.Secrets {
		given[name] = []byte(b.Secrets[name])
	}
	s.seen = newWatch(given)
	s.opt = client.SolveOpt{
		FrontendAttrs: s.attributes(src),
		SharedKey:     cmp.Or(req.Origin, req.Name), // whose files BuildKit compares the context with
		Session:       []session.Attachable{b.logins(), secretsprovider.FromMap(given)},
	}
	s.opt.LocalMounts = map[string]fsutil.FS{}
	if s.opt.LocalMounts["context"], err = s.files.context(); err != nil {
		return nil, err
	}
	if s.opt.LocalMounts["dockerfile"], err = s.files.instructions(); err != nil {
		return nil, err
	}
	s.opt.LocalFilterOpt = s.measure
	return s, s.begin(b.Layouts)
}

func (s *solve) close() error { return s.files.close() }

// attributes are what the Dockerfile frontend is told.
func (s *solve) attributes(src image.Source) map[string]string {
	recipe := s.req.Recipe
	told := map[string]string{
		"filename":                    recipe.Dockerfile,
		"platform":                    s.platform,
		"build-arg:SOURCE_DATE_EPOCH": strconv.Itoa(epoch),
	}
	if recipe.BuildTarget != "" {
		told["target"] = recipe.BuildTarget
	}
	for name, value := range recipe.Args {
		told["build-arg:"+name] = value
	}
	about := image.Annotations(s.req, src.Revision)
	if source := about[annotationSource]; source != "" {
		told["vcs:source"] = source
	}
	if src.Revision.Commit != "" {
		told["vcs:revision"] = src.Revision.Commit
	}
	return told
}

const annotationSource = "org.opencontainers.image.source"

// begin lets FROM begin with images from OCI layouts.
func (s *solve) begin(layouts map[string]string) error {
	for name, dir := range layouts {
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			return fmt.Errorf("OCI layout of %s: %w", name, err)
		}
		manifest, err := index.IndexManifest()
		if err != nil || len(manifest.Manifests) != 1 {
			return fmt.Errorf("OCI layout of %s in %s: it should have one image: %w", name, dir, err)
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

// run asks BuildKit, and tells its progress. What BuildKit does ends with ctx.
func (s *solve) run(ctx context.Context, b *Builder) (map[string]string, error) {
	c, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	statuses := make(chan *client.SolveStatus)
	told := s.seen.tell(statuses, s.log)
	response, err := c.Build(ctx, s.opt, "release", s.build, statuses)
	<-told
	switch {
	case s.wrong != nil && ctx.Err() == nil:
		return nil, s.verdict(b, s.wrong)
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, s.verdict(b, err)
	}
	return response.ExporterResponse, nil
}

// build has the Dockerfile carried out, and looks at what comes out of it before
// any of that leaves BuildKit.
func (s *solve) build(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
	result, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: c.BuildOpts().Opts, Evaluate: true})
	if err == nil {
		err = s.fits(result.Metadata)
	}
	if err != nil {
		s.wrong = err // BuildKit says it again in words of its own
	}
	return result, err
}

// fits refuses an image that machines of the platform asked for could not run.
// BuildKit writes that platform into any image; what the image was put on knows
// better.
func (s *solve) fits(metadata map[string][]byte) error {
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
			return s.wrongFile("%s makes an image for %s, and one for %s is asked for: name a base image for that, without --platform in the last FROM, or set another platform", s.req.Recipe.Dockerfile, has, s.platform)
		}
	}
	return nil
}

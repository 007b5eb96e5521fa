package localrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// An imageStore has the unpacked images in a folder, one subfolder per digest.
type imageStore struct {
	dir       string
	registry  string // host:port of the only registry
	transport http.RoundTripper

	mu sync.Mutex // serializes unpacking
}

// An image is unpacked and can be run.
type image struct {
	digest string
	root   string // folder with its files; its own path has no symbolic links
	config v1.Config
}

// unpack returns the image of ref, and pulls and unpacks it if necessary. It
// asks the registry each time, so that a deleted image is not run from files
// that are still here.
func (s *imageStore) unpack(ctx context.Context, ref string) (*image, error) {
	remoteImage, err := s.pullImage(ctx, ref)
	if err != nil {
		return nil, err
	}
	digest, err := remoteImage.Digest()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.dir, digest.Hex)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := s.unpackTo(remoteImage, dir); err != nil {
			return nil, fmt.Errorf("unpack image %s: %w", ref, err)
		}
	} else if err != nil {
		return nil, err
	}
	i := &image{digest: digest.String(), root: filepath.Join(dir, "root")}
	doc, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	return i, json.Unmarshal(doc, &i.config)
}

// digest returns the digest of ref in the registry, and whether it exists.
func (s *imageStore) digest(ctx context.Context, ref string) (string, bool) {
	r, err := s.parseRef(ref)
	if err != nil {
		return "", false
	}
	d, err := remote.Head(r, remote.WithContext(ctx), remote.WithTransport(s.transport))
	if err != nil {
		return "", false
	}
	return d.Digest.String(), true
}

// parseRef parses ref and replaces its registry by this one: references to
// Fly's registry in existing configs stay valid.
func (s *imageStore) parseRef(ref string) (name.Reference, error) {
	r, err := name.ParseReference(ref, name.WithDefaultRegistry("registry.fly.io"))
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	repository, err := name.NewRepository(s.registry+"/"+r.Context().RepositoryStr(), name.Insecure)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	if d, ok := r.(name.Digest); ok {
		return repository.Digest(d.DigestStr()), nil
	}
	return repository.Tag(r.Identifier()), nil
}

func (s *imageStore) pullImage(ctx context.Context, ref string) (v1.Image, error) {
	if ref == "" {
		return nil, errors.New("the machine's config names no image")
	}
	r, err := s.parseRef(ref)
	if err != nil {
		return nil, err
	}
	here := v1.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	d, err := remote.Get(r, remote.WithContext(ctx), remote.WithTransport(s.transport), remote.WithPlatform(here))
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("image %s is not in the registry at %s: push it there first", ref, s.registry)
	}
	if err != nil {
		return nil, fmt.Errorf("pull image %s: %w", ref, err)
	}
	i, err := d.Image()
	if err != nil {
		return nil, fmt.Errorf("pull image %s for %s: %w", ref, here, err)
	}
	config, err := i.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("pull image %s: %w", ref, err)
	}
	if !runsOn(config, here) {
		return nil, fmt.Errorf("image %s is built for %s, and this machine runs %s programs: build it for %s",
			ref, config.Platform(), here, here)
	}
	return i, nil
}

// runsOn reports whether an image was built for a platform. An image that names
// no platform is tried.
func runsOn(config *v1.ConfigFile, here v1.Platform) bool {
	return (config.OS == "" || config.OS == here.OS) &&
		(config.Architecture == "" || config.Architecture == here.Architecture)
}

// unpackTo unpacks i into dir. dir does not exist until it is complete.
func (s *imageStore) unpackTo(i v1.Image, dir string) error {
	config, err := i.ConfigFile()
	if err != nil {
		return err
	}
	layers, err := i.Layers()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(s.dir, ".tmp-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // renamed already on success
	path := filepath.Join(tmp, "root")
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	for n, layer := range layers {
		if err := applyLayer(root, layer); err != nil {
			return fmt.Errorf("layer %d: %w", n+1, err)
		}
	}
	if dir, err := pathInImage(config.Config.WorkingDir); err != nil {
		return fmt.Errorf("working directory: %w", err)
	} else if err := root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	doc, err := json.Marshal(config.Config)
	if err != nil {
		return err
	}
	if err := writeFileAtomic(filepath.Join(tmp, "config.json"), doc); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

// localPath returns the location of an image's path on this computer, if the
// image has it. It does not convert "/", which rarely means the image's files
// in a command or an env var.
func (i *image) localPath(path string) (string, bool) {
	if !strings.HasPrefix(path, "/") || filepath.Clean(path) == "/" {
		return "", false
	}
	here := filepath.Join(i.root, path) // Join cleans the path, so that .. stays inside
	real, err := filepath.EvalSymlinks(here)
	if err != nil || !strings.HasPrefix(real, i.root+string(filepath.Separator)) {
		return "", false
	}
	return here, true
}

// workingDir returns the local folder in which the image's command runs.
func (i *image) workingDir() string {
	return filepath.Join(i.root, filepath.Clean("/"+i.config.WorkingDir))
}

package buildkit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/microbima/release/image"
)

// A checkout gives a build the files of a revision, and no file outside the checkout
// that a link leads to. The context is the root of the repository, wherever the
// Dockerfile is, as with flyctl when it is run there.
type checkout struct {
	root          *os.Root
	dockerfile    []byte
	dockerfileDir string // has copies of the Dockerfile and its ignore file
}

// openCheckout opens a checkout and reads the files that the recipe of req names.
// The caller closes it.
func openCheckout(src image.Source, req image.Request) (_ *checkout, err error) {
	root, err := os.OpenRoot(src.Dir)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	c := &checkout{root: root}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.dockerfile, err = c.readFile(req, req.Recipe.Dockerfile); err != nil {
		return nil, err
	}
	if isBlank(c.dockerfile) {
		return nil, &image.BuildError{Name: req.Name, Reason: req.Recipe.Dockerfile + ": it has no instructions"}
	}
	if c.dockerfileDir, err = os.MkdirTemp("", "release-dockerfile-"); err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	file := filepath.Join(c.dockerfileDir, filepath.FromSlash(path.Clean(req.Recipe.Dockerfile)))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	if err := os.WriteFile(file, c.dockerfile, 0o600); err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	ignore, err := c.readIgnorefile(req)
	if err == nil && ignore != nil {
		err = os.WriteFile(file+".dockerignore", ignore, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *checkout) close() error {
	err := c.root.Close()
	if c.dockerfileDir != "" {
		err = errors.Join(err, os.RemoveAll(c.dockerfileDir))
	}
	return err
}

// readIgnorefile returns the content of the ignore file: the recipe's, the
// Dockerfile's, or .dockerignore. It returns nil if there is none.
func (c *checkout) readIgnorefile(req image.Request) ([]byte, error) {
	name := req.Recipe.Ignorefile
	if name == "" {
		name = req.Recipe.Dockerfile + ".dockerignore"
		if _, err := c.root.Stat(filepath.FromSlash(name)); errors.Is(err, fs.ErrNotExist) {
			name = ".dockerignore"
		}
		if _, err := c.root.Lstat(filepath.FromSlash(name)); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	content, err := c.readFile(req, name)
	if err != nil {
		return nil, err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(content))
	for _, pattern := range patterns {
		if _, patternErr := patternmatcher.New([]string{pattern}); patternErr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", pattern, patternErr))
		}
	}
	if err != nil {
		return nil, &image.BuildError{Name: req.Name, Reason: fmt.Sprintf("%s: %s", name, strings.ReplaceAll(err.Error(), "\n", "; "))}
	}
	return content, nil
}

// readFile returns the content of a file that the recipe names. A file that is
// missing or leads out of the checkout is an *image.BuildError.
func (c *checkout) readFile(req image.Request, name string) ([]byte, error) {
	f, err := c.root.Open(filepath.FromSlash(path.Clean(name)))
	if err == nil {
		defer f.Close()
		var info os.FileInfo
		if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
			err = errors.New("not a file")
		}
	}
	var content []byte
	if err == nil {
		if content, err = io.ReadAll(io.LimitReader(f, 16<<20)); err == nil {
			return content, nil
		}
	}
	reason := fmt.Sprintf("%s: %v", name, withoutPath(err))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		reason = fmt.Sprintf("%s: there is no such file in the repository", name)
	case strings.Contains(reason, "escapes"): // os.Root does not export this error
		reason = fmt.Sprintf("%s leads out of the repository; use a file of the repository", name)
	}
	return nil, &image.BuildError{Name: req.Name, Reason: reason}
}

// withoutPath returns the error that an *fs.PathError wraps.
func withoutPath(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// contextFS returns the files that COPY reads, without .git, and with the modes that
// git stores, which do not depend on the umask of the worker.
func (c *checkout) contextFS() (fsutil.FS, error) {
	return fsutil.NewFilterFS(fsutil.NewRootFS(fsutil.NewRoot(c.root)), &fsutil.FilterOpt{Map: func(name string, st *types.Stat) fsutil.MapResult {
		mode := os.FileMode(st.Mode)
		if filepath.Base(name) == ".git" {
			if mode.IsDir() {
				return fsutil.MapResultSkipDir
			}
			return fsutil.MapResultExclude
		}
		switch {
		case mode.IsDir() || mode.IsRegular() && mode&0o100 != 0:
			mode = mode&^fs.ModePerm | 0o755
		case mode.IsRegular():
			mode = mode&^fs.ModePerm | 0o644
		}
		st.Mode, st.Xattrs = uint32(mode), nil
		return fsutil.MapResultKeep
	}})
}

// dockerfileFS returns the folder with the Dockerfile and its ignore file.
func (c *checkout) dockerfileFS() (fsutil.FS, error) { return fsutil.NewFS(c.dockerfileDir) }

// checkTarget returns an *image.BuildError for a build target that the Dockerfile
// does not have. It returns nil for a Dockerfile that can't be parsed or is for
// another frontend: BuildKit reports their errors.
func (c *checkout) checkTarget(req image.Request) error {
	target := req.Recipe.BuildTarget
	if _, _, _, other := parser.DetectSyntax(c.dockerfile); target == "" || other {
		return nil
	}
	names, err := targetNames(c.dockerfile)
	if err != nil {
		return nil
	}
	if others := otherTargets(names, target); others != "" {
		return &image.BuildError{Name: req.Name, Reason: fmt.Sprintf("%s has no build target %s: it has %s", req.Recipe.Dockerfile, target, others)}
	}
	return nil
}

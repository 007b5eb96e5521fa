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

// A checkout is what a build may read: the files of a revision, and nothing that
// a link in them leads to outside.
type checkout struct {
	root       *os.Root
	dockerfile []byte
	instr      string // folder with copies of the Dockerfile and its ignore file
}

// open reads what the recipe of req names. The caller closes it.
func open(src image.Source, req image.Request) (_ *checkout, err error) {
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
	if c.dockerfile, err = c.read(req, req.Recipe.Dockerfile); err != nil {
		return nil, err
	}
	if blank(c.dockerfile) {
		return nil, &image.BuildError{Name: req.Name, Reason: req.Recipe.Dockerfile + ": there is nothing in it"}
	}
	if c.instr, err = os.MkdirTemp("", "release-dockerfile-"); err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	file := filepath.Join(c.instr, filepath.FromSlash(path.Clean(req.Recipe.Dockerfile)))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	if err := os.WriteFile(file, c.dockerfile, 0o600); err != nil {
		return nil, fmt.Errorf("build %s: %w", req.Name, err)
	}
	ignore, err := c.ignore(req)
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
	if c.instr != "" {
		err = errors.Join(err, os.RemoveAll(c.instr))
	}
	return err
}

// ignore is the file that says what stays out of the context: the recipe's, else
// the Dockerfile's own, else nil, where BuildKit looks for .dockerignore.
func (c *checkout) ignore(req image.Request) ([]byte, error) {
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
	content, err := c.read(req, name)
	if err != nil {
		return nil, err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(content))
	for _, pattern := range patterns {
		if _, wrong := patternmatcher.New([]string{pattern}); wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", pattern, wrong))
		}
	}
	if err != nil {
		return nil, &image.BuildError{Name: req.Name, Reason: fmt.Sprintf("%s: %s", name, strings.ReplaceAll(err.Error(), "\n", "; "))}
	}
	return content, nil
}

// read is the content of a file that the recipe names.
func (c *checkout) read(req image.Request, name string) ([]byte, error) {
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
	reason := fmt.Sprintf("%s: %v", name, cause(err))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		reason = fmt.Sprintf("%s: there is no such file in the repository", name)
	case strings.Contains(reason, "escapes"): // os.Root has no name for it
		reason = fmt.Sprintf("%s leads out of the repository; only what lies in it can be built", name)
	}
	return nil, &image.BuildError{Name: req.Name, Reason: reason}
}

// cause is what went wrong, without the names that it went wrong with.
func cause(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// context is what COPY copies from: the files that git knows, as git knows them,
// whatever umask they were written under.
func (c *checkout) context() (fsutil.FS, error) {
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

// instructions is where BuildKit reads the Dockerfile and its ignore file.
func (c *checkout) instructions() (fsutil.FS, error) { return fsutil.NewFS(c.instr) }

// knows refuses a build target that the Dockerfile has not. What can't be parsed
// is left to BuildKit to find out, and so is what another frontend reads.
func (c *checkout) knows(req image.Request) error {
	target := req.Recipe.BuildTarget
	if _, _, _, other := parser.DetectSyntax(c.dockerfile); target == "" || other {
		return nil
	}
	names, err := targets(c.dockerfile)
	if err != nil {
		return nil
	}
	if has := lacks(names, target); has != "" {
		return &image.BuildError{Name: req.Name, Reason: fmt.Sprintf("%s has no build target %s: it has %s", req.Recipe.Dockerfile, target, has)}
	}
	return nil
}

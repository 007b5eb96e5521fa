package localrunner

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Names by which a layer deletes files of lower layers.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// applyLayer extracts a layer over the content of root. It reads the layer
// twice: whiteouts apply to lower layers only, wherever in the layer they are.
func applyLayer(root *os.Root, layer v1.Layer) error {
	if err := forEachEntry(layer, func(h *tar.Header, _ io.Reader) error { return applyWhiteout(root, h) }); err != nil {
		return err
	}
	return forEachEntry(layer, func(h *tar.Header, content io.Reader) error {
		if err := extractEntry(root, h, content); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		return nil
	})
}

func forEachEntry(layer v1.Layer, f func(*tar.Header, io.Reader) error) (err error) {
	content, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	archive := tar.NewReader(content)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := f(h, archive); err != nil {
			return err
		}
	}
	// The digest is verified when the last byte has been read.
	_, err = io.Copy(io.Discard, content)
	return err
}

func applyWhiteout(root *os.Root, h *tar.Header) error {
	name, err := pathInImage(h.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	switch {
	case base == opaque:
		return emptyDir(root, dir)
	case strings.HasPrefix(base, whiteout):
		gone, err := pathInImage(path.Join(dir, strings.TrimPrefix(base, whiteout)))
		if err != nil || gone == dir {
			return fmt.Errorf("%s takes away nothing that a layer can hold", h.Name)
		}
		return ignoreNotExist(root.RemoveAll(gone))
	}
	return nil
}

// emptyDir removes the content of dir.
func emptyDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return ignoreNotExist(err)
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := root.RemoveAll(path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// ignoreNotExist returns nil if err says that a file does not exist.
func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func extractEntry(root *os.Root, h *tar.Header, content io.Reader) error {
	name, err := pathInImage(h.Name)
	if err != nil {
		return err
	}
	if name == "." || strings.HasPrefix(path.Base(name), whiteout) {
		return nil
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := removeExisting(root, name, h.Typeflag == tar.TypeDir); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o755); err != nil {
			return err
		}
		// The owner must be able to remove it again, whatever its mode in the
		// image.
		return root.Chmod(name, h.FileInfo().Mode().Perm()|0o700)
	case tar.TypeReg:
		return extractFile(root, name, h, content)
	case tar.TypeSymlink:
		target, err := containedTarget(root, name, h.Linkname)
		if err != nil {
			return err
		}
		return root.Symlink(target, name)
	case tar.TypeLink:
		target, err := pathInImage(h.Linkname)
		if err != nil {
			return err
		}
		return root.Link(target, name)
	}
	return nil // devices and pipes: only root can create them, and no server needs them
}

// removeExisting removes the file at name, unless it is a directory that stays
// one.
func removeExisting(root *os.Root, name string, dir bool) error {
	info, err := root.Lstat(name)
	if err != nil {
		return ignoreNotExist(err)
	}
	if dir && info.IsDir() {
		return nil
	}
	return root.RemoveAll(name)
}

func extractFile(root *os.Root, name string, h *tar.Header, content io.Reader) error {
	// Perm has no set-user-ID bit and the like.
	mode := h.FileInfo().Mode().Perm() | 0o600
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Chmod(mode), f.Close())
}

// pathInImage returns a path of an image relative to its root, without a
// leading slash, which some builders write. A path that leaves the root is an
// error.
func pathInImage(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if !filepath.IsLocal(clean) {
		return "", fmt.Errorf("path %q leaves the image", name)
	}
	return clean, nil
}

// containedTarget returns the target for a symbolic link at name so that it
// resolves as if the image's root were /: absolute targets become relative, and
// .. does not leave the root.
func containedTarget(root *os.Root, name, target string) (string, error) {
	top, err := filepath.EvalSymlinks(root.Name())
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Join(top, path.Dir(name)))
	if err != nil {
		return "", err
	}
	dir, err := filepath.Rel(top, parent)
	if err != nil {
		return "", err
	}
	from := path.Join("/", filepath.ToSlash(dir))
	to := path.Clean(target)
	if !path.IsAbs(target) {
		if filepath.IsLocal(path.Join(strings.TrimPrefix(from, "/"), target)) {
			return target, nil
		}
		to = path.Join(from, target)
	}
	return filepath.Rel(from, to)
}

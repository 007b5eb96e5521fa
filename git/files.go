package git

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/microbima/release/release"
)

// Limits of a revision's configuration. A folder of fly.toml files is a thousand
// times smaller.
const (
	maxFiles = 2000
	maxBytes = 16 << 20
)

// A blob is one file of a tree.
type blob struct {
	hash, path string
	size       int
}

// readTree returns the tree of a commit from the object store. It does not use
// git archive, which obeys the repository's attributes and may leave out or change
// files. The configuration is read at once, every other file when it is opened.
func readTree(ctx context.Context, dir, commit string) (fs.FS, error) {
	all, lacks, err := listTree(ctx, dir, commit)
	if err != nil {
		return nil, err
	}
	config, rest, err := splitConfig(all)
	if err != nil {
		return nil, err
	}
	later := context.WithoutCancel(ctx)
	t := tree{
		unread: map[string]blob{},
		read:   func(b blob) (fs.FS, error) { return readBlobsAsFS(later, dir, []blob{b}, nil) },
		leftOut: func() ([]release.OmittedFile, error) {
			pointers, err := findLFSPointers(later, dir, all)
			for _, p := range pointers {
				lacks = append(lacks, release.OmittedFile{Path: p, Placeholder: "a Git LFS pointer"})
			}
			return lacks, err
		},
	}
	for _, b := range rest {
		t.unread[b.path] = b
	}
	t.FS, err = readBlobsAsFS(ctx, dir, config, rest)
	return t, err
}

// A tree has the names of all files and the content of the configuration.
type tree struct {
	fs.FS
	unread  map[string]blob // files that are read when they are opened
	read    func(blob) (fs.FS, error)
	leftOut func() ([]release.OmittedFile, error)
}

// LeftOut returns the files of Git LFS, of which a checkout has only a pointer,
// the submodules, of which it has nothing, and the links out of the repository.
func (t tree) LeftOut() ([]release.OmittedFile, error) { return t.leftOut() }

// Open opens a file or folder of the tree.
func (t tree) Open(name string) (fs.File, error) {
	b, unread := t.unread[name]
	if !unread {
		return t.FS.Open(name)
	}
	if b.size > maxBytes {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("larger than %d MB: %w", maxBytes>>20, ErrUnsafe)}
	}
	one, err := t.read(b)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return one.Open(name)
}

// isConfig reports whether a file is part of the configuration.
func isConfig(path string) bool { return path == "release.toml" || strings.HasPrefix(path, "infra/") }

// listTree returns the files of a commit, with links followed. lacks are the
// submodules and the links that a checkout does not have.
func listTree(ctx context.Context, dir, commit string) (blobs []blob, lacks []release.OmittedFile, err error) {
	out, err := output(ctx, dir, "ls-tree", "-r", "-z", "-l", "--full-tree", commit)
	if err != nil {
		return nil, nil, err
	}
	var links []blob
	for entry := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		meta, path, ok := strings.Cut(entry, "\t")
		field := strings.Fields(meta)
		if !ok || len(field) != 4 {
			continue // the tree is empty
		}
		if field[0] == "160000" {
			lacks = append(lacks, release.OmittedFile{Path: path, Placeholder: "a submodule"})
			continue
		}
		size, err := strconv.Atoi(field[3])
		if err != nil {
			return nil, nil, fmt.Errorf("git ls-tree: size of %s: %w", path, err)
		}
		b := blob{hash: field[2], path: path, size: size}
		if field[0] == "120000" {
			links = append(links, b)
		} else {
			blobs = append(blobs, b)
		}
	}
	blobs, escaping, err := followLinks(ctx, dir, blobs, links)
	return blobs, append(lacks, escaping...), err
}

// splitConfig separates the configuration from all other files. Configuration
// that is too large is ErrUnsafe.
func splitConfig(all []blob) (config, rest []blob, err error) {
	total := 0
	for _, b := range all {
		if !isConfig(b.path) {
			rest = append(rest, b)
			continue
		}
		if total += b.size; total > maxBytes || len(config) == maxFiles {
			return nil, nil, fmt.Errorf("infra holds more than %d files or %d MB: only configuration belongs there (reached at %s): %w",
				maxFiles, maxBytes>>20, b.path, ErrUnsafe)
		}
		config = append(config, b)
	}
	return config, rest, nil
}

// readBlobsAsFS returns a file system with the content of blobs and the names of
// empty. It is a zip archive: the standard library's one file system that is
// read-only, in memory and checked.
func readBlobsAsFS(ctx context.Context, dir string, blobs, empty []blob) (fs.FS, error) {
	contents, err := readBlobs(ctx, dir, blobs)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, f := range blobs {
		dst, err := w.CreateHeader(&zip.FileHeader{Name: f.path, Method: zip.Store})
		if err != nil {
			return nil, err
		}
		if _, err := dst.Write(contents[i]); err != nil {
			return nil, err
		}
	}
	for _, f := range empty {
		if _, err := w.CreateHeader(&zip.FileHeader{Name: f.path, Method: zip.Store}); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
}

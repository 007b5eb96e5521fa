package git

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/microbima/release/release"
)

// How much of a revision's configuration is read. A folder of fly.toml files is
// a thousand times smaller.
const (
	maxFiles = 2000
	maxBytes = 16 << 20
)

// A blob is one file of a tree.
type blob struct {
	hash, path string
	size       int
}

// files is the tree of a commit, out of the object store. Not by git archive,
// which obeys the repository's attributes and may leave out or change files.
// The configuration is read at once; of the rest there are the names, and what
// is opened of it is read then.
func files(ctx context.Context, dir, commit string) (fs.FS, error) {
	all, lacks, err := list(ctx, dir, commit)
	if err != nil {
		return nil, err
	}
	blobs, rest, err := split(all)
	if err != nil {
		return nil, err
	}
	read := func(ctx context.Context, blobs []blob, empty []blob) (fs.FS, error) {
		var ask strings.Builder
		for _, b := range blobs {
			ask.WriteString(b.hash + "\n")
		}
		var answer bytes.Buffer
		err := command{dir: dir, stdin: strings.NewReader(ask.String()), stdout: &answer, args: []string{"cat-file", "--batch"}}.run(ctx)
		if err != nil {
			return nil, err
		}
		return pack(blobs, bufio.NewReader(&answer), empty)
	}
	t := tree{rest: map[string]blob{}, read: func(b blob) (fs.FS, error) {
		return read(context.WithoutCancel(ctx), []blob{b}, nil)
	}, leftOut: func() ([]release.LeftOut, error) {
		pointers, err := findPointers(context.WithoutCancel(ctx), dir, all)
		for _, p := range pointers {
			lacks = append(lacks, release.LeftOut{Path: p, What: "a Git LFS pointer"})
		}
		return lacks, err
	}}
	for _, b := range rest {
		t.rest[b.path] = b
	}
	t.FS, err = read(ctx, blobs, rest)
	return t, err
}

// A tree has every file's name, and the configuration's content.
type tree struct {
	fs.FS
	rest map[string]blob // what is not read yet
	read func(blob) (fs.FS, error)
	// leftOut finds what a checkout lacks.
	leftOut func() ([]release.LeftOut, error)
}

// LeftOut returns the files of Git LFS, of which a checkout has only a pointer,
// the submodules, of which it has nothing, and the links out of the repository.
func (t tree) LeftOut() ([]release.LeftOut, error) { return t.leftOut() }

// Open opens a file or folder of the tree.
func (t tree) Open(name string) (fs.File, error) {
	b, unread := t.rest[name]
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

// isConfig reports whether a file is read at once.
func isConfig(path string) bool { return path == "release.toml" || strings.HasPrefix(path, "infra/") }

// list names the files of a commit, with the links followed, and what a checkout
// lacks besides files of Git LFS.
func list(ctx context.Context, dir, commit string) (blobs []blob, lacks []release.LeftOut, err error) {
	out, err := output(ctx, dir, "ls-tree", "-r", "-z", "-l", "--full-tree", commit)
	if err != nil {
		return nil, nil, err
	}
	var links []blob
	for entry := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		meta, path, ok := strings.Cut(entry, "\t")
		field := strings.Fields(meta)
		if !ok || len(field) != 4 {
			continue // nothing there at all
		}
		if field[0] == "160000" {
			lacks = append(lacks, release.LeftOut{Path: path, What: "a submodule"})
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

// split separates the configuration, which is read, from the rest. It refuses
// configuration that is too large.
func split(all []blob) (blobs, rest []blob, err error) {
	total := 0
	for _, b := range all {
		if !isConfig(b.path) {
			rest = append(rest, b)
			continue
		}
		if total += b.size; total > maxBytes || len(blobs) == maxFiles {
			return nil, nil, fmt.Errorf("infra holds more than %d files or %d MB: only configuration belongs there (reached at %s): %w",
				maxFiles, maxBytes>>20, b.path, ErrUnsafe)
		}
		blobs = append(blobs, b)
	}
	return blobs, rest, nil
}

// pack makes a file system of what git cat-file --batch answered: a zip, the
// one in the standard library that is read-only, in memory and checked. Of the
// empty ones it has the names.
func pack(blobs []blob, answer *bufio.Reader, empty []blob) (fs.FS, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range blobs {
		head, err := answer.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("git cat-file: %s: %w", f.path, err)
		}
		if want := fmt.Sprintf("%s blob %d\n", f.hash, f.size); head != want {
			return nil, fmt.Errorf("git cat-file: %s: got %q", f.path, head)
		}
		dst, err := w.CreateHeader(&zip.FileHeader{Name: f.path, Method: zip.Store})
		if err != nil {
			return nil, err
		}
		if _, err := io.CopyN(dst, answer, int64(f.size)); err != nil {
			return nil, fmt.Errorf("git cat-file: %s: %w", f.path, err)
		}
		if _, err := answer.Discard(1); err != nil {
			return nil, fmt.Errorf("git cat-file: %s: %w", f.path, err)
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

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
	all, submodules, err := list(ctx, dir, commit)
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
	}, leftOut: func() (map[string]string, error) {
		pointers, err := findPointers(context.WithoutCancel(ctx), dir, all)
		out := map[string]string{}
		for _, p := range pointers {
			out[p] = "a Git LFS pointer"
		}
		for _, p := range submodules {
			out[p] = "a submodule"
		}
		return out, err
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
	leftOut func() (map[string]string, error)
}

// LeftOut returns the files of Git LFS and the submodules, by path: a checkout
// has only a pointer, or nothing, of each.
func (t tree) LeftOut() (map[string]string, error) { return t.leftOut() }

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

// list names the files of a commit, with the links followed, and its submodules.
func list(ctx context.Context, dir, commit string) (blobs []blob, submodules []string, err error) {
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
			submodules = append(submodules, path)
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
	blobs, err = followLinks(ctx, dir, blobs, links)
	return blobs, submodules, err
}

// split separates the configuration, which is read, from the rest. It refuses
// configuration that is too large.
func split(all []blob) (blobs, rest []blob, err error) {
	total := 0
	for _, b := range all {
		if b.path != "release.toml" && !strings.HasPrefix(b.path, "infra/") {
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

package git

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// maxHops is how many links are followed to one file.
const maxHops = 20

// followLinks returns blobs and, under the names of the links, the files that the
// links lead to. A dangling link is left out. A link out of the repository is
// returned in out, because Mirror.Checkout refuses it; in the configuration it is
// ErrUnsafe.
func followLinks(ctx context.Context, dir string, blobs, links []blob) (all []blob, out []release.OmittedFile, err error) {
	targets, err := readBlobs(ctx, dir, links)
	if err != nil {
		return nil, nil, err
	}
	to := map[string]string{}
	for i, l := range links {
		to[l.path] = string(targets[i])
	}
	all = slices.Clone(blobs)
	for _, l := range links {
		target, err := resolveLink(to, l.path)
		if err != nil && isConfig(l.path) {
			return nil, nil, fmt.Errorf("%s is a symbolic link to %s, out of the repository: %w", l.path, to[l.path], err)
		}
		if err != nil {
			out = append(out, release.OmittedFile{Path: l.path, Placeholder: "a symbolic link to " + to[l.path] + ", out of the repository", IsRefused: true})
			continue
		}
		for _, b := range blobs {
			if rest, below := strings.CutPrefix(b.path, target); target != "" && below && (rest == "" || rest[0] == '/') {
				b.path = l.path + rest
				all = append(all, b)
			}
		}
	}
	return all, out, nil
}

// resolveLink returns the path that name leads to when all links in it are
// followed, and "" after maxHops links.
func resolveLink(to map[string]string, name string) (string, error) {
	for range maxHops {
		link, rest := firstLink(to, name)
		if link == "" {
			return name, nil
		}
		if path.IsAbs(to[link]) {
			return "", ErrUnsafe
		}
		name = path.Join(path.Dir(link), to[link], rest)
		if name == ".." || strings.HasPrefix(name, "../") {
			return "", ErrUnsafe
		}
	}
	return "", nil
}

// firstLink returns the first part of name that is a link, and the rest of name.
func firstLink(to map[string]string, name string) (link, rest string) {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if _, ok := to[name[:i]]; ok {
			return name[:i], strings.TrimPrefix(name[i:], "/")
		}
	}
	return "", ""
}

// readBlobs returns the content of each blob.
func readBlobs(ctx context.Context, dir string, blobs []blob) ([][]byte, error) {
	if len(blobs) == 0 {
		return nil, nil
	}
	var hashes strings.Builder
	for _, b := range blobs {
		hashes.WriteString(b.hash + "\n")
	}
	out, err := command{dir: dir, stdin: strings.NewReader(hashes.String()), args: []string{"cat-file", "--batch"}}.output(ctx)
	if err != nil {
		return nil, err
	}
	from, all := bufio.NewReader(strings.NewReader(out)), make([][]byte, len(blobs))
	for i, b := range blobs {
		head, err := from.ReadString('\n')
		if err != nil || head != fmt.Sprintf("%s blob %d\n", b.hash, b.size) {
			return nil, fmt.Errorf("git cat-file: %s: got %q", b.path, head)
		}
		all[i] = make([]byte, b.size)
		if _, err := io.ReadFull(from, all[i]); err != nil {
			return nil, fmt.Errorf("git cat-file: %s: %w", b.path, err)
		}
		if _, err := from.Discard(1); err != nil {
			return nil, fmt.Errorf("git cat-file: %s: %w", b.path, err)
		}
	}
	return all, nil
}

// A Git LFS pointer has about 130 bytes and begins with lfsVersion.
const (
	minPointer = 100
	maxPointer = 300
	lfsVersion = "version https://git-lfs.github.com/spec/"
)

// findLFSPointers returns the paths of Git LFS pointers. It returns none for a
// repository whose .gitattributes do not name LFS.
func findLFSPointers(ctx context.Context, dir string, blobs []blob) (paths []string, err error) {
	var attributes, small []blob
	for _, b := range blobs {
		if path.Base(b.path) == ".gitattributes" {
			attributes = append(attributes, b)
		} else if b.size >= minPointer && b.size <= maxPointer {
			small = append(small, b)
		}
	}
	texts, err := readBlobs(ctx, dir, attributes)
	if err != nil || !slices.ContainsFunc(texts, func(t []byte) bool { return bytes.Contains(t, []byte("filter=lfs")) }) {
		return nil, err
	}
	if texts, err = readBlobs(ctx, dir, small); err != nil {
		return nil, err
	}
	for i, b := range small {
		if bytes.HasPrefix(texts[i], []byte(lfsVersion)) {
			paths = append(paths, b.path)
		}
	}
	return paths, nil
}

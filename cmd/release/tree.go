package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"path"
	"strings"
	"time"
)

// A tree is all of a commit. The files that most questions are about come from
// FS; others, like the folder of an app's source, are looked up one by one.
type tree struct {
	fs.FS
	ctx    context.Context //nolint:containedctx // fs.FS has no room for one
	dir    string
	commit string
}

// Open implements fs.FS.
func (t tree) Open(name string) (fs.File, error) {
	file, err := t.FS.Open(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || !fs.ValidPath(name) {
		return file, err
	}
	ref := t.commit + ":" + name
	kind, _ := t.git("cat-file", "-t", ref) // a path that is not there has no kind
	switch strings.TrimSpace(string(kind)) {
	case "tree":
		return &object{name: path.Base(name), mode: fs.ModeDir | 0o555, Reader: bytes.NewReader(nil)}, nil
	case "blob":
		content, err := t.git("cat-file", "blob", ref)
		return &object{name: path.Base(name), mode: 0o444, Reader: bytes.NewReader(content)}, err
	}
	return nil, err
}

func (t tree) git(args ...string) ([]byte, error) {
	cmd := exec.CommandContext(t.ctx, "git", args...)
	cmd.Dir = t.dir
	return cmd.Output()
}

// An object is one file or folder of a tree.
type object struct {
	*bytes.Reader
	name string
	mode fs.FileMode
}

func (o *object) Stat() (fs.FileInfo, error) { return o, nil }
func (o *object) Close() error               { return nil }
func (o *object) Name() string               { return o.name }
func (o *object) Mode() fs.FileMode          { return o.mode }
func (o *object) ModTime() time.Time         { return time.Time{} }
func (o *object) IsDir() bool                { return o.mode.IsDir() }
func (o *object) Sys() any                   { return nil }

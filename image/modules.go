package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// A modfile is what of a go.mod or a go.work leads to other directories, as
// go mod edit and go work edit print it.
type modfile struct {
	Use     []struct{ DiskPath string }
	Replace []struct {
		New struct{ Path, Version string }
	}
}

// directories are those that the file names.
func (f modfile) directories() (dirs []string) {
	for _, u := range f.Use {
		dirs = append(dirs, u.DiskPath)
	}
	for _, r := range f.Replace {
		if r.New.Version == "" {
			dirs = append(dirs, r.New.Path)
		}
	}
	return dirs
}

// within refuses a module, or a workspace, that takes code from outside of the
// checkout: what lies there is the worker's, and nothing of the revision.
func within(ctx context.Context, src Source, req Request, module string) error {
	work := filepath.Join(src.Dir, "go.work")
	if !exists(work) && modules(module) == "vendor" {
		return nil // all code is in the vendor directory, wherever it came from
	}
	files := [][]string{{"mod", filepath.Join(module, "go.mod")}}
	if exists(work) {
		files = append(files, []string{"work", work})
	}
	for i := 0; i < len(files); i++ {
		kind, path := files[i][0], files[i][1]
		out, err := exec.CommandContext(ctx, "go", kind, "edit", "-json", path).Output()
		if err != nil {
			return unreadable(req, err)
		}
		var f modfile
		if err := json.Unmarshal(out, &f); err != nil {
			return fmt.Errorf("build %s: read %s: %w", req.Name, path, err)
		}
		for _, dir := range f.directories() {
			there := dir
			if !filepath.IsAbs(there) {
				there = filepath.Join(filepath.Dir(path), dir)
			}
			if in, err := filepath.Rel(src.Dir, there); err != nil || !filepath.IsLocal(in) {
				name, _ := filepath.Rel(src.Dir, path)
				return &BuildError{Name: req.Name, Reason: fmt.Sprintf("%s leads to %s, out of the repository; only what lies in it can be released", name, dir)}
			}
			if used := filepath.Join(there, "go.mod"); kind == "work" && exists(used) {
				files = append(files, []string{"mod", used}) // replacements of its modules count, too
			}
		}
	}
	return nil
}

// unreadable is the verdict on a file that the go command can't make sense of.
func unreadable(req Request, err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Exited() {
		return fmt.Errorf("build %s: %w", req.Name, err)
	}
	words := strings.TrimSpace(string(exit.Stderr))
	return &BuildError{Name: req.Name, Reason: strings.Join(strings.Fields(words), " "), Output: words}
}

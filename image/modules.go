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

// A modfile has the fields of a go.mod or go.work that name other directories, as
// printed by go mod edit and go work edit.
type modfile struct {
	Use     []struct{ DiskPath string }
	Replace []struct {
		New struct{ Path, Version string }
	}
}

// localDirs returns the directories that the file names.
func (f modfile) localDirs() (dirs []string) {
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

// checkModules returns a *BuildError for a module or a workspace that uses code from
// outside the checkout, which is not part of the revision.
func checkModules(ctx context.Context, src Source, req Request, module string) error {
	work := filepath.Join(src.Dir, "go.work")
	if !fileExists(work) && modFlag(module) == "vendor" {
		return nil // all code is in the vendor directory
	}
	files := [][]string{{"mod", filepath.Join(module, "go.mod")}}
	if fileExists(work) {
		files = append(files, []string{"work", work})
	}
	for i := 0; i < len(files); i++ {
		kind, path := files[i][0], files[i][1]
		out, err := exec.CommandContext(ctx, "go", kind, "edit", "-json", path).Output()
		if err != nil {
			return modfileError(req, err)
		}
		var f modfile
		if err := json.Unmarshal(out, &f); err != nil {
			return fmt.Errorf("build %s: read %s: %w", req.Name, path, err)
		}
		for _, dir := range f.localDirs() {
			target := dir
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(path), dir)
			}
			if inside, err := filepath.Rel(src.Dir, target); err != nil || !filepath.IsLocal(inside) {
				name, _ := filepath.Rel(src.Dir, path)
				return &BuildError{Name: req.Name, Reason: fmt.Sprintf("%s leads to %s, out of the repository; use code of the repository only", name, dir)}
			}
			if used := filepath.Join(target, "go.mod"); kind == "work" && fileExists(used) {
				files = append(files, []string{"mod", used}) // replacements of its modules apply as well
			}
		}
	}
	return nil
}

// modfileError returns a *BuildError for a file that the go command can't read.
func modfileError(req Request, err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Exited() {
		return fmt.Errorf("build %s: %w", req.Name, err)
	}
	output := strings.TrimSpace(string(exit.Stderr))
	return &BuildError{Name: req.Name, Reason: strings.Join(strings.Fields(output), " "), Output: output}
}

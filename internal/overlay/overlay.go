// Package overlay changes source files for one build, without changing the files on
// disk. Tests use it to build a later version of this program, or a faulty one.
//
// It writes the file for the -overlay option of the go command.
package overlay

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Change replaces Old, which must occur in File exactly once, by New.
type Change struct {
	File     string // path from the root of the module, with slashes
	Old, New string
}

// Write writes the changed files of the module at root into dir, and returns the path
// of the file for -overlay. Changes of the same file are applied in order. Write fails
// if an old text does not occur exactly once: then the source has changed, and the test
// has to be adapted.
func Write(dir, root string, changes ...Change) (path string, err error) {
	// The go command uses names without symbolic links.
	if root, err = filepath.Abs(root); err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	texts := map[string]string{} // with the changes so far, by file
	for _, c := range changes {
		file := filepath.Join(root, filepath.FromSlash(c.File))
		text, ok := texts[file]
		if !ok {
			doc, err := os.ReadFile(file)
			if err != nil {
				return "", fmt.Errorf("overlay: %w", err)
			}
			text = string(doc)
		}
		if n := strings.Count(text, c.Old); c.Old == "" || n != 1 {
			return "", fmt.Errorf("overlay: %s has the text to replace %d times, want once; adapt the test to the source:\n%s", c.File, n, c.Old)
		}
		texts[file] = strings.Replace(text, c.Old, c.New, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		replace[file] = filepath.Join(dir, fmt.Sprintf("%d-%s", len(replace), filepath.Base(file)))
		if err := os.WriteFile(replace[file], []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("overlay: %w", err)
		}
	}
	doc, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	path = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, doc, 0o644); err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	return path, nil
}

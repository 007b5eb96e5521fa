package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/microbima/release/fly/flytoml/tomldoc"
	"github.com/microbima/release/release"
)

// Load reads the project in fsys, the root of a repository. Its error is of type
// Errors and has every mistake in all files. For an untrusted repository, fsys must not
// follow links that lead out of it: use os.Root.
func Load(fsys fs.FS) (*release.Project, Warnings, error) {
	doc, err := fs.ReadFile(fsys, File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, Errors{{File: File, Msg: "not found; write it at the root of the repository, with project = \"…\" and [environments.…]"}}
	}
	if err != nil {
		return nil, nil, Errors{{File: File, Msg: fmt.Sprintf("cannot be read: %v", err)}}
	}
	d, err := tomldoc.Parse(File, withoutBOM(doc))
	if err != nil {
		var problems Errors
		errors.As(err, &problems)
		return nil, nil, problems
	}
	l := &loader{fsys: fsys, doc: d, flyApps: map[string]string{}, only: map[string][]string{}}
	l.readProject(d.Root())
	l.readFolders()
	l.checkScan()
	l.checkOnly()
	l.checkTargets()
	l.readTargets()
	l.sortProject()
	return l.result()
}

// A loader reads one Project.
type loader struct {
	fsys         fs.FS
	doc          *tomldoc.Doc
	project      release.Project
	apps         map[string]*release.App
	environments map[string]*release.Environment
	scan         *tomldoc.Table      // [scan], nil if missing
	only         map[string][]string // app → environments, from only in release.toml
	flyApps      map[string]string   // Fly app → fly.toml
	problems     Errors              // in other files than release.toml
	warnings     Warnings
}

func (l *loader) result() (*release.Project, Warnings, error) {
	problems, warnings := l.doc.Close()
	problems = append(problems, l.problems...)
	warnings = append(warnings, l.warnings...)
	byFile := func(a, b *Error) int { // release.toml first: other mistakes may follow from it
		return cmp.Or(boolInt(b.File == File)-boolInt(a.File == File), cmp.Compare(a.File, b.File), a.Line-b.Line, cmp.Compare(a.Key, b.Key))
	}
	slices.SortStableFunc(problems, byFile)
	slices.SortStableFunc(warnings, byFile)
	if len(problems) > 0 {
		return nil, warnings, problems
	}
	return &l.project, warnings, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// withoutBOM returns doc without the byte order mark that some editors write.
func withoutBOM(doc []byte) []byte { return bytes.TrimPrefix(doc, []byte("\xEF\xBB\xBF")) }

// add records a mistake without a line.
func (l *loader) add(file, format string, args ...any) {
	l.problems = append(l.problems, &Error{File: file, Msg: fmt.Sprintf(format, args...)})
}

package buildkit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/microbima/release/release"
)

// A Mistake is an error in a Dockerfile with which every build fails.
type Mistake struct {
	File    string // path in the repository
	Line    int    // 0 if it concerns no line
	Message string
}

// Check returns the first mistake in the Dockerfile of a recipe that can be found
// without building it, or nil. A Dockerfile whose syntax comment names another
// frontend is not parsed.
func Check(repository fs.FS, recipe release.Recipe) *Mistake {
	dockerfile, err := fs.ReadFile(repository, recipe.Dockerfile)
	if err != nil {
		return &Mistake{File: recipe.Dockerfile, Message: "there is no such file in the repository"}
	}
	if isBlank(dockerfile) {
		return &Mistake{File: recipe.Dockerfile, Message: "it has no instructions"}
	}
	if _, _, _, other := parser.DetectSyntax(dockerfile); other {
		return nil
	}
	names, err := targetNames(dockerfile)
	if err != nil {
		mistake := &Mistake{File: recipe.Dockerfile, Message: syntaxErrorPattern.ReplaceAllString(err.Error(), "")}
		var at *parser.LocationError
		if errors.As(err, &at) && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
			mistake.Line = at.Locations[0][0].Start.Line
		}
		return mistake
	}
	if others := otherTargets(names, recipe.BuildTarget); others != "" {
		return &Mistake{File: recipe.Dockerfile, Message: fmt.Sprintf("there is no build target %s: it has %s", recipe.BuildTarget, others)}
	}
	return nil
}

// otherTargets returns "" if target is one of the build targets of a Dockerfile, and
// else a text that lists them. A target is a name or a number.
func otherTargets(names []string, target string) string {
	if target == "" {
		return ""
	}
	for i, name := range names {
		if strings.EqualFold(name, target) || target == fmt.Sprint(i) {
			return ""
		}
	}
	if named := strings.Join(strings.Fields(strings.Join(names, " ")), ", "); named != "" {
		return named
	}
	return "no names; FROM … AS " + target + " gives one"
}

// targetNames returns the names of a Dockerfile's build targets in order, "" for one
// without a name.
func targetNames(dockerfile []byte) ([]string, error) {
	parsed, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return nil, err
	}
	targets, _, err := instructions.Parse(parsed.AST, nil)
	var names []string
	for _, target := range targets {
		names = append(names, target.Name)
	}
	return names, err
}

// isBlank reports whether a Dockerfile has no instructions.
func isBlank(dockerfile []byte) bool {
	for line := range bytes.Lines(dockerfile) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

package buildkit

import (
	"bytes"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// parts are the build targets of a Dockerfile, in their order.
func parts(dockerfile []byte) ([]instructions.Stage, error) {
	parsed, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return nil, err
	}
	found, _, err := instructions.Parse(parsed.AST, nil)
	return found, err
}

// targets are the names of the build targets, "" for those that have none.
func targets(dockerfile []byte) (names []string, err error) {
	found, err := parts(dockerfile)
	for _, p := range found {
		names = append(names, p.Name)
	}
	return names, err
}

// blank says whether there is no instruction in a Dockerfile.
func blank(dockerfile []byte) bool {
	for line := range bytes.Lines(dockerfile) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

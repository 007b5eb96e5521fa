// Package config reads how a repository is released: release.toml at its root
// and infra/fly/<app>/<environment>/fly.toml beside it.
//
// Load returns a release.Project, or every mistake in all of the files at once,
// with file and line. Spec says what one target of it should run.
package config

import (
	"regexp"

	"github.com/microbima/release/fly/flytoml"
)

// File is the file at a repository's root that makes it a project.
const File = "release.toml"

// Dir holds a folder for each app, which holds one for each environment.
const Dir = "infra/fly"

// An Error is one mistake: file:line: key: what would be right.
type Error = flytoml.Problem

// Errors is the error of Load: every mistake, by file and line.
type Errors = flytoml.Problems

// Warnings are oddities that don't keep a project from being released.
type Warnings = flytoml.Warnings

// validName says whether s can be the name of a project, app, environment or
// test. Names go into URLs, git refs, image tags and workflow IDs.
func validName(s string) bool {
	return aName.MatchString(s)
}

const nameRule = "use lower-case letters, digits and dashes, at most 63"

var aName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

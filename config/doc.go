// Package config reads release.toml at the root of a repository and its
// infra/fly/<app>/<environment>/fly.toml files.
//
// Load returns a release.Project, or the mistakes in all files at once, with file and
// line. Spec returns what a target should run.
package config

import (
	"regexp"

	"github.com/microbima/release/fly/flytoml"
)

// File is the name of the project file at the root of a repository.
const File = "release.toml"

// Dir is the folder of the apps. Each app has a subfolder for each environment.
const Dir = "infra/fly"

// An Error is a mistake, written as file:line: key: message.
type Error = flytoml.Problem

// Errors is the error that Load returns: every mistake, by file and line.
type Errors = flytoml.Problems

// Warnings are problems that do not prevent a release.
type Warnings = flytoml.Warnings

// validName reports whether s is a valid name of a project, app, environment or test.
// Names become parts of URLs, git refs, image tags and workflow IDs.
func validName(s string) bool {
	return namePattern.MatchString(s)
}

const nameRule = "use lower-case letters, digits and dashes, at most 63"

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

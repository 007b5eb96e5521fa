package config

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/microbima/release/fly/flytoml"
	"github.com/microbima/release/fly/flytoml/tomldoc"
	"github.com/microbima/release/release"
)

// readLeftOut reads the patterns of what a release does without.
func (l *loader) readLeftOut(t *tomldoc.Table) {
	l.project.LeftOut = t.Strings("left_out")
	for _, pattern := range l.project.LeftOut {
		if !doublestar.ValidatePattern(pattern) {
			t.Errorf("left_out", "%.80q is not a pattern of paths, like \"docs/**\"", pattern)
		}
	}
}

// CheckLeftOut returns a mistake for each file and folder of a commit that a
// checkout does not have as it is meant: an image would be built of the pointers
// of Git LFS, or without a submodule. A rollback builds nothing and does not ask.
func CheckLeftOut(files fs.FS, p *release.Project) (mistakes Errors, err error) {
	partial, ok := files.(interface {
		LeftOut() ([]release.LeftOut, error)
	})
	if !ok {
		return nil, nil // a worktree
	}
	lacks, err := partial.LeftOut()
	if err != nil {
		return nil, fmt.Errorf("look for files of Git LFS and submodules: %w", err)
	}
	for _, l := range lacks {
		switch {
		case l.Refused:
			mistakes = append(mistakes, &Error{File: l.Path, Msg: "is " + l.What + ": no test and no build is run with it"})
		case !isLeftOut(p.LeftOut, l.Path):
			mistakes = append(mistakes, &Error{File: l.Path, Msg: fmt.Sprintf(
				"is %s, and a release has no more than that of it: commit the content itself, or write left_out = [%q] in %s if no image and no test needs it", l.What, l.Path, File)})
		}
	}
	return mistakes, nil
}

func isLeftOut(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		match, err := doublestar.Match(pattern, path)
		return err == nil && match
	})
}

func usesBuildpacks(b flytoml.Build) bool { return b.Builder != "" || len(b.Buildpacks) > 0 }

// checkBuildpacks names a [build] that asks for buildpacks: a mistake where
// nothing else says how the app becomes an image.
func (l *loader) checkBuildpacks(t *release.TargetFile, c *flytoml.Config, fail func(key, format string, args ...any)) {
	build := c.Build()
	if !usesBuildpacks(build) {
		return
	}
	key := "build.builder"
	if build.Builder == "" {
		key = "build.buildpacks"
	}
	const advice = "buildpacks are not supported"
	if l.apps[t.Target.App].Go != "" || build.Image != "" || build.Dockerfile != "" || l.ownDockerfile(t) != "" {
		l.warnings = append(l.warnings, c.Problem(key, "%s: it has no effect, because something else says how %s becomes an image", advice, t.Target.App))
		return
	}
	fail(key, "%s; write go = \"…\" at [apps.%s] in %s, or add %s/%[2]s/Dockerfile, or write image = \"…\" at [build]", advice, t.Target.App, File, Dir)
}

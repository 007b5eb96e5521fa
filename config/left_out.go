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

// readLeftOut reads the patterns of files that a release may lack.
func (l *loader) readLeftOut(t *tomldoc.Table) {
	l.project.OmittedFiles = t.Strings("left_out")
	for _, pattern := range l.project.OmittedFiles {
		if !doublestar.ValidatePattern(pattern) {
			t.Errorf("left_out", "%.80q is not a pattern of paths, like \"docs/**\"", pattern)
		}
	}
}

// CheckLeftOut returns a mistake for each file or folder that a checkout of the commit
// lacks and left_out does not allow: an image would contain Git LFS pointers, or lack a
// submodule. A rollback builds nothing and is not checked.
func CheckLeftOut(files fs.FS, p *release.Project) (mistakes Errors, err error) {
	partial, ok := files.(interface {
		LeftOut() ([]release.OmittedFile, error)
	})
	if !ok {
		return nil, nil // a worktree
	}
	missing, err := partial.LeftOut()
	if err != nil {
		return nil, fmt.Errorf("look for files of Git LFS and submodules: %w", err)
	}
	for _, l := range missing {
		switch {
		case l.IsRefused:
			mistakes = append(mistakes, &Error{File: l.Path, Msg: "is " + l.Placeholder + ": tests and builds refuse it"})
		case !isLeftOut(p.OmittedFiles, l.Path):
			mistakes = append(mistakes, &Error{File: l.Path, Msg: fmt.Sprintf(
				"is %s, whose content a release does not fetch; commit the content itself, or write left_out = [%q] in %s if no image and no test needs it", l.Placeholder, l.Path, File)})
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

// checkBuildpacks reports buildpacks in [build]: as a mistake, or as a warning if the
// image has another source.
func (l *loader) checkBuildpacks(t *release.TargetFile, c *flytoml.Config, fail func(key, format string, args ...any)) {
	build := c.Build()
	if !usesBuildpacks(build) {
		return
	}
	key := "build.builder"
	if build.Builder == "" {
		key = "build.buildpacks"
	}
	if l.apps[t.Target.App].Go != "" || build.Image != "" || build.Dockerfile != "" || l.ownDockerfile(t) != "" {
		l.warnings = append(l.warnings, c.Problem(key, "buildpacks are not supported; ignored, because the image of %s has another source", t.Target.App))
		return
	}
	fail(key, "buildpacks are not supported; write go = \"…\" at [apps.%s] in %s, or add %s/%[1]s/Dockerfile, or write image = \"…\" at [build]", t.Target.App, File, Dir)
}

package config

import (
	"github.com/bmatcuk/doublestar/v4"

	"github.com/microbima/release/fly/flytoml"
	"github.com/microbima/release/fly/flytoml/tomldoc"
	"github.com/microbima/release/release"
)

// A Partial is a tree that lacks content: git.Repo and git.Mirror return one.
type Partial interface {
	// LeftOut returns the paths of files and folders that a checkout does not
	// have as they are meant, each with what stands there.
	LeftOut() (map[string]string, error)
}

// readLeftOut reads the patterns of what a release does without.
func (l *loader) readLeftOut(t *tomldoc.Table) {
	l.leftOut = t.Strings("left_out")
	for _, pattern := range l.leftOut {
		if !doublestar.ValidatePattern(pattern) {
			t.Errorf("left_out", "%.80q is not a pattern of paths, like \"docs/**\"", pattern)
		}
	}
}

// checkLeftOut names the files of Git LFS and the submodules, which no checkout
// of a release has: an image would be built of pointers.
func (l *loader) checkLeftOut() {
	partial, ok := l.fsys.(Partial)
	if !ok {
		return
	}
	lacks, err := partial.LeftOut()
	if err != nil {
		l.add(File, "looking for files of Git LFS: %v", err)
		return
	}
	for path, what := range lacks {
		if !l.isLeftOut(path) {
			l.add(path, "is %s, and a release has no more than that of it: commit the content itself, or write left_out = [%q] in %s if no image and no test needs it", what, path, File)
		}
	}
}

func (l *loader) isLeftOut(path string) bool {
	for _, pattern := range l.leftOut {
		if match, err := doublestar.Match(pattern, path); err == nil && match {
			return true
		}
	}
	return false
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

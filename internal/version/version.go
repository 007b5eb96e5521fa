// Package version returns the version of the running program.
package version

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the linker in builds without version control:
//
//	go build -ldflags "-X github.com/microbima/release/internal/version.tag=v0.1.0
//	    -X github.com/microbima/release/internal/version.commit=$(git rev-parse HEAD)"
var tag, commit string

// Info is the version of a program, its source and its platform.
type Info struct {
	Version  string `json:"version"` // a tag, a pseudo-version of Go, or "devel"
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // the worktree differed from the commit
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Go       string `json:"go"`
	Platform string `json:"platform"` // linux/amd64
}

// Read returns the version of the running program: tag and commit from the linker, else
// the module version and the commit that the go command recorded.
func Read() Info {
	build, _ := debug.ReadBuildInfo() // nil without modules
	return newInfo(build, tag, commit)
}

// newInfo returns the version from a build's information and the linker's values.
func newInfo(build *debug.BuildInfo, tag, commit string) Info {
	info := Info{Version: tag, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if build != nil {
		if v := build.Main.Version; v != "(devel)" {
			info.Version = cmp.Or(tag, v)
		}
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				info.Commit = cmp.Or(commit, s.Value)
			case "vcs.modified":
				info.Modified = s.Value == "true"
			case "vcs.time":
				info.Time = s.Value
			}
		}
	}
	info.Version = cmp.Or(info.Version, "devel")
	return info
}

// Short returns the first 12 digits of the commit, or the version if the commit is
// unknown.
func (i Info) Short() string {
	if i.Commit == "" {
		return i.Version
	}
	return i.Commit[:min(12, len(i.Commit))]
}

// String returns the version in one line.
func (i Info) String() string {
	s := i.Version
	if i.Commit != "" {
		s += ", commit " + i.Short()
	}
	if i.Modified {
		s += " (modified)"
	}
	return fmt.Sprintf("%s, %s, %s", s, i.Go, i.Platform)
}

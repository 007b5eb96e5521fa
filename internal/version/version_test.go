package version

import (
	"runtime/debug"
	"testing"
)

func TestNewInfo_EachBuild(t *testing.T) {
	vcs := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.modified", Value: "true"}}
	for name, test := range map[string]struct {
		build       *debug.BuildInfo
		tag, commit string
		version     string
		short       string
	}{
		"values from the linker":  {build: &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, tag: "v0.1.0", commit: "abcdef", version: "v0.1.0", short: "abcdef"},
		"go install of a version": {build: &debug.BuildInfo{Main: debug.Module{Version: "v0.1.0"}}, version: "v0.1.0", short: "v0.1.0"},
		"go build in a clone":     {build: &debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-2026+dirty"}, Settings: vcs}, version: "v0.0.0-2026+dirty", short: "0123456789ab"},
		"go build without git":    {build: &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, version: "devel", short: "devel"},
		"go run":                  {build: &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs}, version: "devel", short: "0123456789ab"},
		"without build info":      {version: "devel", short: "devel"},
		"linker overrides git":    {build: &debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-2026"}, Settings: vcs}, tag: "v0.1.0", commit: "abcdef", version: "v0.1.0", short: "abcdef"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := newInfo(test.build, test.tag, test.commit); got.Version != test.version || got.Short() != test.short {
				t.Errorf("got %q, short %q; want %q, %q", got.Version, got.Short(), test.version, test.short)
			}
		})
	}
}

package localstack

import (
	"path/filepath"
	"strings"

	"github.com/microbima/release/internal/cli"
)

// stackWorld returns w with the settings of a stack in dir, and without the settings for
// any other Temporal, Fly or repository.
func stackWorld(w *cli.World, dev cli.DevFile, dir string) *cli.World {
	inner := *w
	inner.Env = append(withoutSettings(w.Env), "RELEASE_STATE_DIR="+dir, "TEMPORAL_ADDRESS="+dev.Temporal,
		"TEMPORAL_CONFIG_FILE="+filepath.Join(dir, "no-temporal.toml"))
	return &inner
}

// withoutSettings returns env without the variables that select another Temporal, Fly or
// repository.
func withoutSettings(env cli.Environ) (rest cli.Environ) {
	for _, entry := range env {
		if !isSetting(entry) {
			rest = append(rest, entry)
		}
	}
	return rest
}

func isSetting(entry string) bool {
	for _, prefix := range []string{"TEMPORAL_", "FLY_", "GIT_DIR=", "GIT_WORK_TREE=", "GIT_INDEX_FILE="} {
		if strings.HasPrefix(entry, prefix) {
			return true
		}
	}
	return false
}

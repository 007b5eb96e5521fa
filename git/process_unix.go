//go:build unix

package git

// systemEnv lists the env vars that git needs on this system alone.
var systemEnv []string

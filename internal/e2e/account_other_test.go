//go:build !unix

package e2e_test

import "os/exec"

// unprivileged: only on Unix there is a root.
func unprivileged(*exec.Cmd, string) error { return nil }

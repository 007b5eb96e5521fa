//go:build !unix

package e2e_test

import "os/exec"

// unprivileged does nothing, because only Unix has root.
func unprivileged(*exec.Cmd, string) error { return nil }

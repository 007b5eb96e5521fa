//go:build !unix

package e2e_test

import "os/exec"

// runUnprivileged does nothing, because only Unix has root.
func runUnprivileged(*exec.Cmd, string) error { return nil }

//go:build !unix

package activities

import "os/exec"

// ownGroup is for systems with process groups; elsewhere only cmd itself is
// ended.
func ownGroup(*exec.Cmd) {}

func endGroup(*exec.Cmd) error { return nil }

//go:build !unix

package activities

import "os/exec"

// setGroup does nothing: on this system only cmd itself is ended.
func setGroup(*exec.Cmd) {}

func killGroup(*exec.Cmd) error { return nil }

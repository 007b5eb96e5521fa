//go:build !unix

// Package procgroup runs commands so that the processes they start end with them.
package procgroup

import "os/exec"

// Set leaves cmd as it is: this system has no process groups. Cancelling the context of
// cmd kills cmd alone.
func Set(*exec.Cmd) {}

// Kill does nothing.
func Kill(*exec.Cmd) error { return nil }

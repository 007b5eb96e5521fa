//go:build unix

package image

// checkSystem returns an error if Go can't build on this operating system.
func checkSystem() error { return nil }

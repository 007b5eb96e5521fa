// Package workflows is the release process, written down: two workflows that
// read from top to bottom as the process does. What is not in release.go or
// rollout.go does not happen.
//
// The code is deterministic: it may be replayed from its history at any time,
// by another process, on another version of the program. Everything that
// leaves the process is an activity.
package workflows

// Package workflows is the release process, written down: two workflows that
// read from top to bottom as the process does. What is not in release.go or
// rollout.go does not happen.
//
// The code is deterministic: it may be replayed from its history at any time,
// by another process, on another version of the program. Everything that
// leaves the process is an activity.
//
// Every history in testdata/history is replayed by the tests: how each kind of
// release ended, as a real Temporal recorded it. A change that breaks one needs
// workflow.GetVersion, for releases are under way while the program is
// replaced. What has never run outside of this repository may be recorded anew:
//
//	go test ./internal/e2e -run Endings -record NAME
package workflows

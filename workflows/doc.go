// Package workflows implements the release process as three Temporal workflows:
// Release, Rollout and Pin. release.go and rollout.go contain every step of the process,
// in order.
//
// The code must be deterministic: Temporal may replay it from the history at any time,
// in another process and with another version of the program. Every call to the outside
// is an activity.
//
// The tests replay every history in testdata/history. A real Temporal server recorded
// one for each way in which a release can end. A change that breaks a replay needs
// workflow.GetVersion, because releases continue while the program is replaced. A
// history of a version that was never published may be recorded again:
//
//	go test ./internal/e2e -run Endings -record NAME
package workflows

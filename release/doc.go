// Package release is the vocabulary of releases: requests, states, plans, and results.
//
// It contains only data and pure functions. It does not use Fly, Temporal, files or the
// clock, so that tests can check every rule without running a release.
//
// Values of these types are stored in workflow histories. Renaming a field, or changing
// its meaning, is a schema change.
//
// Start with Plan (plan.go), then read NewPlan and Restore, which decide every change of a
// machine.
package release

// Package release is the vocabulary of a release: what may be asked for, what
// was found, what will be done, and how it ended.
//
// Everything here is data or a pure function of data. Nothing talks to Fly, to
// Temporal, to the disk or to the clock, so every rule about what a release
// does can be tested without running one.
//
// Values of these types are stored in workflow histories. Renaming a field, or
// using an old name for a new meaning, is a schema change.
//
// Start reading at Plan (plan.go), then NewPlan and Restore, the two functions
// that decide everything that happens to a machine.
package release

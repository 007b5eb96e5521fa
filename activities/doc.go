// Package activities does the work: every call that leaves the process.
//
// An activity is written to be run twice. Each one looks before it leaps, so a
// retry after a lost answer finds the change already made and goes on from
// there. Nothing here loops over failures: classify says which of them time
// will not cure, and Temporal retries the rest.
//
// Start reading at ApplyStep (apply.go): it is the only code that changes a
// machine.
package activities

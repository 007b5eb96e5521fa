// Package activities is the boundary between workflows and the outside world: one file
// for each activity, with its input, its heartbeat and the classification of its
// errors. Machines are changed by package fly/driver.
//
// Every activity may run twice: it reads first, so that a retry after a lost answer
// finds the change that was made and continues from there. No activity retries its
// failures itself: classify decides which of them a retry does not cure, and Temporal
// retries the others.
package activities

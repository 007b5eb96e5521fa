// Package activities connects workflows with the outside world. Each activity has a file
// with its input, its heartbeat and the classification of its errors. Package fly/driver
// changes machines.
//
// Every activity may run twice: it reads first, so that a retry after a lost response
// finds the change and continues from there. No activity retries its own failures:
// classifyError decides which failures are permanent, and Temporal retries the others.
package activities

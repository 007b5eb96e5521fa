// Package driver observes and changes the machines of Fly apps: steps, leases,
// one-off commands, volumes, Fly releases, and the verdict on running machines.
//
// Every operation is safe to run twice. It reads first, recognizes a change that
// an earlier attempt made, and sends the change only where it is missing. The
// driver does not retry operations: it fails with an Error where a retry would
// fail in the same way, and with the error of package fly otherwise. What it needs
// to know of the attempt comes with the context (WithAttempt).
//
// Start reading at Apply (apply.go): it is the only code that changes a machine.
package driver

// Package e2e has tests that run releases with a real Temporal server and with workers
// in processes of their own: kills, resets, upgrades, load and soak. It has no code of
// its own.
package e2e

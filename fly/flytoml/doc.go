// Package flytoml converts a fly.toml into the machine configs that flyctl would
// post for it, or reports every mistake in it.
//
// Parse reads and validates a file. Config.Group returns everything about one
// process group: the config of a new machine, its volume, the machines that
// test it, and the configs that existing machines get by Update or Replace.
// Config.ReleaseCommand returns the config of the machine that runs the release
// command, Config.Addresses the IP addresses to request, Config.Definition the
// file in the form that a Fly release stores.
//
// Update works on the JSON of the existing machine: it replaces the fields that
// fly.toml sets and keeps all others, including those unknown to this package.
//
// The expected results were recorded from the real flyctl (testdata/golden).
// Where flyctl ignores a mistake, this package reports it.
package flytoml

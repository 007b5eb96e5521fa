// Package flytoml turns a fly.toml into what flyctl would ask of Fly for it, or
// into everything that is wrong with it.
//
// Parse reads and judges a file. Config.Create, Update and Replace make machine
// configs; ReleaseCommand and MachineChecks those of machines that run one
// command; Volume and Addresses say what has to be there before; Definition is
// the file as a Fly release keeps it. Update works on the JSON that a machine
// has: it replaces what fly.toml says and leaves the rest alone, known to this
// program or not.
//
// What flyctl does was recorded from the real one (testdata/golden). Where it
// swallows a mistake, this package reports it.
package flytoml

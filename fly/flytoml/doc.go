// Package flytoml turns a fly.toml into the machine configs that flyctl would
// post for it, or into everything that is wrong with it.
//
// Parse reads and judges a file; Config.Create and Config.Update make machine
// configs. Update works on the JSON that a machine has: it replaces what
// fly.toml says and leaves the rest alone, known to this program or not.
//
// What flyctl does was recorded from the real one (testdata/golden/own). Where
// it swallows a mistake, this package reports it.
package flytoml

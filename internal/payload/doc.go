// Package payload encodes values for Temporal and measures them.
//
// A large value is encoded in two steps. First, each JSON value of 512 bytes or more
// that occurs twice (a machine config, or the content of a file as text or in base64)
// is stored once and referenced by its SHA-256 hash; base64 is stored as its bytes.
// Then the result is compressed. The size of a plan therefore depends on the number of
// different files in its machine configs, not on the number of machines.
//
// Compression alone is not enough because it looks back only 32 kB: it does not find
// the second copy of a file of 50 kB.
package payload

// Package payload writes values for Temporal and measures them.
//
// A large value is written in two steps. First, each JSON value of 512 bytes or
// more that occurs twice (a machine config, a file's content, whether as text or
// in base64) is stored once and referred to by its SHA-256 hash; what is in base64
// is stored as its bytes. Then the result is compressed. A plan for 18 machines whose configs hold a file of 50 kB each
// is therefore as large as the different files in it, not as the machines times
// four.
//
// The first step is needed because the compression looks back 32 kB only: it
// does not recognize the second copy of a file of 50 kB.
package payload

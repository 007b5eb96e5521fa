// Package fly is a client of Fly.io: of the parts of its Machines API, release
// records and logs that a release needs.
//
// It does not retry, log or trace. Each method sends one request and returns
// its result or an Error; the caller decides what to do about it. Start reading
// at Client (client.go); the kinds of errors are in errors.go.
//
// Machine configs are opaque JSON: fields unknown to this program are returned
// unchanged.
package fly

// Package flysim simulates Fly: an http.Handler that implements the Machines
// API, the release records and the GraphQL that flyctl and fly-go use, with a
// clock, latencies, Fly's rate limits and injected faults.
//
// Without a Runner its machines have no process. With one, a started machine is
// a real process, its checks are real requests, and its app has a real URL.
//
// Start reading at Sim. The faults are in fault.go. The conformance test in
// package fly compares it with the real API.
package flysim

// Package flysim is a Fly that fits on one machine: an http.Handler that
// speaks the Machines API, the release records and the GraphQL that flyctl and
// fly-go use, has a clock, latencies and Fly's limits, and can be told to fail.
//
// Without a Runner its machines are make-believe. With one, a started machine
// is a real process, its checks are real requests, and its app has a real URL.
//
// Start reading at Sim. What it may be told to suffer is in fault.go. It is
// held to the real API by the conformance test in package fly.
package flysim

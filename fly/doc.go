// Package fly is a client of Fly.io: the part of its Machines API, its release
// records and its logs that a release needs.
//
// It does not retry, log or trace. It sends one request and says what
// happened; whoever is durable decides what to do about it. Start reading at
// Client (client.go); what can go wrong is in errors.go.
//
// Machine configs are opaque JSON all the way through: what this program has
// never heard of comes back as it was.
package fly

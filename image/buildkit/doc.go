// Package buildkit builds Dockerfiles with a BuildKit that runs as a separate daemon
// or in a Docker Engine.
//
// Start reading at Builder. checkout.go selects the files that a build may read,
// solve.go makes the request to BuildKit, and errors.go explains BuildKit's errors.
package buildkit

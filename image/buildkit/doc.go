// Package buildkit builds Dockerfiles with a BuildKit that runs elsewhere: a
// daemon of its own, or a Docker Engine's.
//
// Start reading at Builder. What of a checkout a build may read is in
// checkout.go, what is asked of BuildKit in solve.go, and what its errors mean in
// errors.go.
package buildkit

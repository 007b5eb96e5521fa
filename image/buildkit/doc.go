// Package buildkit builds Dockerfiles with a BuildKit that runs elsewhere: a
// daemon of its own, or a Docker Engine's.
package buildkit

// Package image builds the image of an app from its source at one revision, and
// refers to it by digest.
//
// Go builds Go programs (go.go); any type with the same Build method is a builder.
// The same source gives the same digest, at any revision, in any directory and on
// any day, so an app that did not change is not released again. The index around
// the image records what it was built from (index.go), and Registry finds a build
// by it (registry.go).
package image

// Package image makes the image of an app from its source at one revision, and
// pins it by digest.
//
// A builder is anything with the method Build of Go (go.go). The same source
// gives the same digest, whatever the revision, the directory or the day: an
// app that did not change is not released again. What it was built of is said by
// the index around it (index.go), by which Registry finds it again (registry.go).
package image

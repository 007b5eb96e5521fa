// Package view turns what a release is into what people read. Every function
// is pure: the same status, style and clock give the same text, so that a
// workflow may call Details, and every view has a golden file.
//
// Start reading at Live and Lines (a release under way, on a terminal and in a
// log) and Report (a release that is over).
package view

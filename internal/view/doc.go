// Package view renders the status, the plan and the report of a release as text.
// Every function is pure: the same status, style and time give the same text, so
// that a workflow may call Details, and every view has a golden file.
//
// Start reading at Live and Lines (a running release, on a terminal and in a log)
// and Report (a release that has ended).
package view

// Package git is the part of git that a release needs, done by the git binary:
// reading a person's worktree (Repo), and exact checkouts of any revision for
// workers (Mirror).
//
// What a repository says is never trusted: no shell, no hooks, no filters in
// checkouts, no submodules, no transports but files, https and ssh, and names
// that people type never pass for options.
package git

// Package git runs the parts of git that workers and commands need, through the git binary:
// Repo reads a user's worktree, and Mirror gives workers exact checkouts of any
// revision.
//
// Repositories are untrusted: no shell, no hooks, no filters in checkouts, no
// submodules, and no transports but files, https and ssh. A name that a user
// types is never read as an option.
package git

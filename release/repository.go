package release

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// A Repository identifies the repository of a project. Two repositories with the same
// project name are different projects.
type Repository struct {
	Address string `json:"address"`        // normalized: host/path, or an absolute path
	Root    string `json:"root,omitempty"` // its first commit; "" in a shallow clone
}

// String returns the address and the first commit.
func (r Repository) String() string {
	if r.Root == "" {
		return r.Address
	}
	return fmt.Sprintf("%s (first commit %s)", r.Address, Revision{Commit: r.Root}.Short())
}

// IsSame reports whether r and other are the same repository. An unknown root matches
// any root.
func (r Repository) IsSame(other Repository) bool {
	return r.Address == other.Address && (r.Root == other.Root || r.Root == "" || other.Root == "")
}

var scpAddress = regexp.MustCompile(`^(?:[^@/]+@)?([^:/]+):(.+)$`)

// NormalizeAddress returns a normalized address: without scheme, user, port and ".git".
func NormalizeAddress(address string) string {
	trim := func(path string) string { return strings.TrimSuffix(strings.TrimRight(path, "/"), ".git") }
	if filepath.IsAbs(address) {
		return trim(filepath.Clean(address))
	}
	if u, err := url.Parse(address); err == nil && u.Scheme == "file" {
		return trim(filepath.Clean(u.Path))
	} else if err == nil && u.Host != "" {
		return strings.ToLower(u.Hostname()) + trim("/"+strings.Trim(u.Path, "/"))
	}
	if m := scpAddress.FindStringSubmatch(address); m != nil {
		return strings.ToLower(m[1]) + "/" + trim(strings.Trim(m[2], "/"))
	}
	return address
}

package cli

import "testing"

// Histories keep the address of a clone for a year.
func TestWithoutPassword_CloneAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"https://ada:secret@example.com/shop.git": "https://example.com/shop.git",
		"https://token@example.com/shop.git":      "https://example.com/shop.git",
		"ssh://git@example.com/shop.git":          "ssh://git@example.com/shop.git",
		"ssh://git:secret@example.com/shop.git":   "ssh://git@example.com/shop.git",
		"https://ada:se%cret@example.com/a.git":   "https://example.com/a.git",
		"git@example.com:shop.git":                "git@example.com:shop.git",
		"/srv/shop":                               "/srv/shop",
	} {
		if got := withoutPassword(address); got != want {
			t.Errorf("%s is recorded as %s", address, got)
		}
	}
}

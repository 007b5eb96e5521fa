package release

import "testing"

func TestNormalizeAddress(t *testing.T) {
	for address, want := range map[string]string{
		"https://GitHub.com/acme/shop.git":      "github.com/acme/shop",
		"https://user@github.com/acme/shop/":    "github.com/acme/shop",
		"git@github.com:acme/shop.git":          "github.com/acme/shop",
		"ssh://git@github.com:22/acme/shop.git": "github.com/acme/shop",
		"/home/ana/shop":                        "/home/ana/shop",
		"file:///srv/git/shop.git":              "/srv/git/shop",
	} {
		if got := NormalizeAddress(address); got != want {
			t.Errorf("Address(%q) is %q, want %q", address, got, want)
		}
	}
}

func TestRepository_IsSame(t *testing.T) {
	a := Repository{Address: "github.com/acme/shop", Root: "aaaa"}
	for name, c := range map[string]struct {
		other Repository
		same  bool
	}{
		"an equal repository":                      {a, true},
		"a copy at another address":                {Repository{Address: "github.com/acme/copy", Root: "aaaa"}, false},
		"another first commit at the same address": {Repository{Address: a.Address, Root: "bbbb"}, false},
		"a shallow clone":                          {Repository{Address: a.Address}, true},
	} {
		if got := a.IsSame(c.other); got != c.same {
			t.Errorf("%s: Same is %t", name, got)
		}
	}
}

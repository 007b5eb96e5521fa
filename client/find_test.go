package client

import (
	"strings"
	"testing"
)

func TestPickID(t *testing.T) {
	ids := []string{
		"release/shop/4f2d1c0b9a8e", "release/shop/4f2d1c0b9a8e", "release/shop/4fff00000000", "release/other/4f2d99999999",
		"release/shop/rollback-production", "rollout/shop/production", "release/other/abcdef000000",
	}
	for _, c := range []struct{ ref, project, want string }{
		{"4f2", "shop", "release/shop/4f2d1c0b9a8e"},
		{"4f2d1c0b9a8e7d6c5b4a39281706f5e4d3c2b1a0", "shop", "release/shop/4f2d1c0b9a8e"}, // a full commit
		{"4f2d9", "shop", "release/other/4f2d99999999"},                                   // only another project has it
		{"abc", "", "release/other/abcdef000000"},
		{"rollback", "shop", "release/shop/rollback-production"},
		{"rollout/shop", "shop", "rollout/shop/production"},
		{"release/other/a", "shop", "release/other/abcdef000000"},
		{"production", "shop", ""}, // a rollout is no release
		{"zzz", "shop", ""},
		{"", "", "many"},
		{"4f", "shop", "many"},
		{"4f2d", "", "many"},
	} {
		got, err := pickID(c.ref, c.project, ids)
		if err != nil {
			got = "many"
			if !strings.Contains(err.Error(), "release/") {
				t.Errorf("%q: the error does not list the candidates: %v", c.ref, err)
			}
		}
		if got != c.want {
			t.Errorf("%q in %q is %q, want %q", c.ref, c.project, got, c.want)
		}
	}
}

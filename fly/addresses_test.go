package fly_test

import (
	"testing"

	"github.com/microbima/release/fly"
)

func TestAddress_Kind(t *testing.T) {
	for want, ips := range map[string][]fly.Address{
		"v4":         {{IP: "137.66.0.9"}},
		"shared_v4":  {{IP: "66.241.124.1", Shared: true}},
		"v6":         {{IP: "2a09:8280:1::4:2"}},
		"private_v6": {{IP: "fdaa:0:22b7:0:1::3"}},
		"":           {{}, {IP: "fly.dev"}},
	} {
		for _, ip := range ips {
			if got := ip.Kind(); got != want {
				t.Errorf("kind of %q is %q, want %q", ip.IP, got, want)
			}
		}
	}
}

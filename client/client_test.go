package client

import (
	"testing"

	sdk "go.temporal.io/sdk/client"
)

func TestPageURL(t *testing.T) {
	for _, c := range []struct{ address, ui, want string }{
		{"127.0.0.1:7233", "", "http://127.0.0.1:8233/namespaces/default/workflows/release%2Fshop%2F4f2d/run"},
		{"shop.tmprl.cloud:7233", "", "https://cloud.temporal.io/namespaces/default/workflows/release%2Fshop%2F4f2d/run"},
		{"localhost:7233", "", "http://127.0.0.1:8233/namespaces/default/workflows/release%2Fshop%2F4f2d/run"},
		{"10.0.0.1:7233", "", ""},
		{"127.0.0.1:17233", "", ""},
		{"temporal:7233", "", ""},
		{"10.0.0.1:7233", "temporal.example.com", "http://temporal.example.com/namespaces/default/workflows/release%2Fshop%2F4f2d/run"},
	} {
		client := newClient(Options{Temporal: sdk.Options{HostPort: c.address, Namespace: "default"}, UI: c.ui})
		if got := client.PageURL("release/shop/4f2d", "run"); got != c.want {
			t.Errorf("%s: %s, want %s", c.address, got, c.want)
		}
	}
}

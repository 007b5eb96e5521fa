package client_test

import (
	"context"
	"errors"
	"fmt"

	temporal "go.temporal.io/sdk/client"

	"github.com/microbima/release/client"
)

// Dial returns an error with a kind. Here no server listens.
func ExampleDial() {
	_, err := client.Dial(context.Background(), client.Options{Temporal: temporal.Options{HostPort: "127.0.0.1:1"}})
	var failed *client.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Kind, "at", failed.Address)
	}
	// Output:
	// unreachable at 127.0.0.1:1
}

// List returns the newest releases of a project.
func ExampleClient_List() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Options{Temporal: temporal.Options{HostPort: "127.0.0.1:7233"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	releases, err := c.List(ctx, "microbima", 20)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range releases {
		fmt.Println(r.ID, r.Outcome)
	}
}

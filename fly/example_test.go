package fly_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

// Errors have kinds, to be tested with errors.Is. Their text is for people.
func ExampleError() {
	ctx, sim := context.Background(), &flysim.Sim{}
	defer sim.Close()
	sim.CreateApp("shop-web", "")
	client := &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}}

	_, err := client.Machine(ctx, "shop-web", "00000000000001")
	fmt.Println("no such machine:", errors.Is(err, fly.ErrNotFound))

	// 503 to a read: nothing was to change, so a retry is safe.
	end := sim.Inject(flysim.Fault{Status: http.StatusServiceUnavailable})
	_, err = client.Machines(ctx, "shop-web")
	fmt.Println("read, 503:", errors.Is(err, fly.ErrUnavailable), errors.Is(err, fly.ErrUnknownOutcome))

	// 503 to a change: it may have been made.
	_, err = client.Create(ctx, "shop-web", fly.Create{Config: []byte(`{"image":"registry.fly.io/shop-web:1"}`)})
	fmt.Println("change, 503:", errors.Is(err, fly.ErrUnavailable), errors.Is(err, fly.ErrUnknownOutcome))
	end()

	var failed *fly.Error
	fmt.Println(errors.As(err, &failed), failed.Status)
	// Output:
	// no such machine: true
	// read, 503: true false
	// change, 503: true true
	// true 503
}

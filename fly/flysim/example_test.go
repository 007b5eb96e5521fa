package flysim_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

// A Fault makes matching requests fail. Here Fly makes the change, and the client gets
// a 504 instead of the response.
func ExampleSim_Inject() {
	ctx, sim := context.Background(), &flysim.Sim{}
	defer sim.Close()
	sim.Put("shop-web", fly.Machine{ID: "00000000000001", Config: json.RawMessage(`{"image":"registry.fly.io/shop-web:1"}`)})
	sim.Inject(flysim.Fault{
		Route: "POST /v1/apps/{app}/machines/{id}", Times: 1,
		Status: http.StatusGatewayTimeout, After: true,
	})

	client := &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}}
	_, err := client.Update(ctx, "shop-web", "00000000000001", fly.Update{Config: json.RawMessage(`{"image":"registry.fly.io/shop-web:2"}`)})
	fmt.Println("outcome unknown:", errors.Is(err, fly.ErrUnknownOutcome))

	// The caller reads the machine instead of sending the request again.
	machine, err := client.Machine(ctx, "shop-web", "00000000000001")
	fmt.Println(machine.ImageRef.Tag, err)
	// Output:
	// outcome unknown: true
	// 2 <nil>
}

package flytoml_test

import (
	"encoding/json"
	"fmt"

	"github.com/microbima/release/fly/flytoml"
)

const exampleFile = `app = "shop-web"
primary_region = "ams"

[env]
LEVEL = "info"

[http_service]
internal_port = 8080
`

func ExampleParse() {
	config, warnings, err := flytoml.Parse("infra/fly/web/staging/fly.toml", []byte(exampleFile))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(warnings), "warnings")
	for _, group := range config.Groups() {
		fmt.Println("group", group.Name, "has services:", group.Services)
	}
	// Output:
	// 0 warnings
	// group app has services: true
}

// The error has every mistake of a file, with its line.
func ExampleParse_mistakes() {
	_, _, err := flytoml.Parse("fly.toml", []byte(`app = "shop-web"

[deploy]
strategy = "rainbow"

[http_service]
auto_stop_machines = "off"
`))
	fmt.Println(err)
	// Output:
	// fly.toml:4: deploy.strategy: "rainbow" is not a strategy; use rolling, canary, bluegreen, immediate
	// fly.toml:6: http_service.internal_port: missing; write the port that the app listens on
}

// Update returns the config for a machine that exists: it replaces the fields that
// fly.toml sets and keeps all others.
func ExampleGroupMachines_Update() {
	config, _, err := flytoml.Parse("fly.toml", []byte(exampleFile))
	if err != nil {
		fmt.Println(err)
		return
	}
	machines, err := config.Group("app", "registry.fly.io/shop-web@sha256:2")
	if err != nil {
		fmt.Println(err)
		return
	}
	updated, err := machines.Update(json.RawMessage(`{
		"image": "registry.fly.io/shop-web@sha256:1",
		"env": {"LEVEL": "debug"},
		"guest": {"cpus": 4, "memory_mb": 2048, "cpu_kind": "shared"},
		"field_of_a_newer_fly": {"a": 1}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(updated, &fields); err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"image", "env", "guest", "field_of_a_newer_fly"} {
		fmt.Printf("%s: %s\n", name, fields[name])
	}
	// Output:
	// image: "registry.fly.io/shop-web@sha256:2"
	// env: {"FLY_PROCESS_GROUP":"app","LEVEL":"info","PRIMARY_REGION":"ams"}
	// guest: {"cpu_kind":"shared","cpus":4,"memory_mb":2048}
	// field_of_a_newer_fly: {"a":1}
}

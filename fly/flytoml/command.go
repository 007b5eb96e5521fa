package flytoml

import (
	"encoding/json"
	"fmt"
	"maps"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/internal/rawjson"
)

// ReleaseGroup is the process group of the machine that runs the release
// command.
const ReleaseGroup = fly.MachineProcessGroupFlyAppReleaseCommand

// reservedPrefix begins the names of Fly's own process groups, which
// [processes] must not contain.
const reservedPrefix = "fly_app_"

// ReleaseCommand returns the config of the machine that runs the release
// command; nil if there is none. The machine is to be created stopped and
// started once; it destroys itself. Its size is [deploy.release_command_vm],
// else that of the machine of the default group with the most memory. machines
// has the configs of the existing ones, started or not.
func (c *Config) ReleaseCommand(image string, machines []json.RawMessage) (json.RawMessage, error) {
	if len(c.deploy.ReleaseCommand) == 0 {
		return nil, nil
	}
	guest, err := c.releaseGuest(machines)
	if err != nil {
		return nil, err
	}
	files, err := c.machineFiles()
	if err != nil {
		return nil, err
	}
	env := maps.Clone(c.env)
	env["RELEASE_COMMAND"] = "1"
	env[envGroup] = ReleaseGroup
	if c.region != "" {
		env[envRegion] = c.region
	}
	config, err := toObject(fly.MachineConfig{
		Image:       image,
		Init:        fly.MachineInit{Cmd: c.deploy.ReleaseCommand, Entrypoint: c.entrypoint, SwapSizeMB: c.swap},
		Restart:     &fly.MachineRestart{Policy: fly.MachineRestartPolicyNo},
		AutoDestroy: true,
		DNS:         &fly.DNSConfig{SkipRegistration: true},
		Env:         env,
		StopConfig:  c.stop,
		Files:       files,
		Metadata:    map[string]string{platformVersion: fly.MachineFlyPlatformVersion2, processGroup: ReleaseGroup},
	})
	if err != nil {
		return nil, err
	}
	config["guest"] = guest
	return rawjson.Marshal(config)
}

func (c *Config) releaseGuest(machines []json.RawMessage) (guest object, err error) {
	if c.deploy.releaseVM != nil {
		return toObject(c.deploy.releaseVM)
	}
	most := 0.0
	for _, doc := range machines {
		config, err := decodeObject(doc)
		if err != nil {
			return nil, fmt.Errorf("reading the config of a machine: %w", err)
		}
		metadata, _ := config["metadata"].(object)
		if metadata[processGroup] != c.defaultGroup() {
			continue
		}
		g, _ := config["guest"].(object)
		memory, _ := g["memory_mb"].(json.Number)
		if mb, err := memory.Float64(); err == nil && mb > most {
			most, guest = mb, g
		}
	}
	if guest == nil {
		guest, err = toObject(fly.MachinePresets["shared-cpu-2x"])
	}
	if err == nil && c.host != "" {
		guest["host_dedication_id"] = c.host
	}
	return guest, err
}

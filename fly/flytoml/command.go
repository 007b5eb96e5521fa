package flytoml

import (
	"encoding/json"
	"fmt"
	"maps"

	fly "github.com/superfly/fly-go"
)

// ReleaseGroup is the process group of the machine that runs the release
// command.
const ReleaseGroup = fly.MachineProcessGroupFlyAppReleaseCommand

// reserved begins the names of process groups that belong to no [processes].
const reservedPrefix = "fly_app_"

// ReleaseCommand is the config of the machine that runs the release command:
// created stopped, started once, gone when done. It is nil if there is no
// command. The machine is as large as [deploy.release_command_vm] says, else
// as the one with the most memory of the default group's machines, started or
// not, whose configs are given.
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
	return encodeCanonical(config)
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

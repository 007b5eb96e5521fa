package flytoml

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/internal/rawjson"
)

// Metadata and env vars that flyctl sets on every machine.
const (
	platformVersion = fly.MachineConfigMetadataKeyFlyPlatformVersion
	processGroup    = fly.MachineConfigMetadataKeyFlyProcessGroup
	envGroup        = "FLY_PROCESS_GROUP"
	envRegion       = "PRIMARY_REGION"
	envStandbyFor   = "FLY_STANDBY_FOR"
)

// createConfig returns the config of a new machine of group: see
// GroupMachines.New.
func (c *Config) createConfig(group, image string) (json.RawMessage, error) {
	config, err := c.wantedConfig(object{}, group, image)
	if err != nil {
		return nil, err
	}
	if err := c.setNewGuest(config, group); err != nil {
		return nil, err
	}
	return rawjson.Marshal(config)
}

// setNewGuest sets the default size of a new machine if it has none, and its
// dedicated host.
func (c *Config) setNewGuest(config object, group string) error {
	if _, ok := config["guest"].(object); !ok {
		preset := *fly.MachinePresets[fly.DefaultVMSize]
		guest, err := toObject(preset)
		if err != nil {
			return err
		}
		config["guest"] = guest
	}
	if host := c.hostOf(group); host != "" {
		childObject(config, "guest")["host_dedication_id"] = host
	}
	return nil
}

// wantedConfig returns base with every field replaced that fly.toml sets,
// except for those that depend on volumes.
func (c *Config) wantedConfig(base object, group, image string) (object, error) {
	if !slices.Contains(c.groups, group) {
		return nil, fmt.Errorf("%s: there is no process group %q", c.file, group)
	}
	managed, err := c.managedFields(group)
	if err != nil {
		return nil, err
	}
	config := cloneObject(base)
	if err := c.mergeMachineConfig(config); err != nil {
		return nil, err
	}
	for _, key := range []string{"metrics", "services", "checks", "env", "statics", "mounts", "stop_config", "files", "restart"} {
		replaceKey(config, managed, key)
	}
	init := childObject(config, "init")
	for _, key := range []string{"cmd", "entrypoint", "exec", "swap_size_mb"} {
		replaceKey(init, managed["init"].(object), key)
	}
	metadata := childObject(config, "metadata")
	metadata[platformVersion] = fly.MachineFlyPlatformVersion2
	metadata[processGroup] = group
	if guest, ok := managed["guest"]; ok {
		config["guest"] = guest
	}
	config["image"] = image
	setContainerImages(config, image)
	return config, nil
}

// managedFields returns the fields of a machine config that fly.toml sets, as
// fly-go encodes them: without empty ones.
func (c *Config) managedFields(group string) (object, error) {
	files, err := c.machineFiles()
	if err != nil {
		return nil, err
	}
	m := fly.MachineConfig{
		Env:        c.envOf(group),
		Services:   c.servicesOf(group),
		Checks:     c.checksOf(group),
		Statics:    c.statics,
		StopConfig: c.stop,
		Files:      files,
		Guest:      c.guestOf(group),
		Init:       fly.MachineInit{Cmd: c.commands[group], Entrypoint: c.entrypoint, Exec: c.exec, SwapSizeMB: c.swap},
	}
	if m.Init.Cmd == nil {
		m.Init.Cmd = c.cmd
	}
	for _, mount := range c.mountsOf(group) {
		m.Mounts = append(m.Mounts, mount.MachineMount)
	}
	for _, x := range c.metrics { // the first applies
		if c.appliesTo(group, x.processes) {
			m.Metrics = x.MachineMetrics
			break
		}
	}
	for _, x := range c.restarts { // the last applies
		if c.appliesTo(group, x.processes) {
			m.Restart = &x.MachineRestart
		}
	}
	return toObject(m)
}

func (c *Config) envOf(group string) map[string]string {
	env := maps.Clone(c.env)
	env[envGroup] = group
	if c.region != "" {
		env[envRegion] = c.region
	}
	return env
}

// guestOf returns the size of a group's machines: of the last [[vm]] that names
// the group, else of the first one for all groups, else nil.
func (c *Config) guestOf(group string) *fly.MachineGuest {
	var guest *fly.MachineGuest
	for i, vm := range c.vms {
		if slices.Contains(vm.processes, group) || len(vm.processes) == 0 && guest == nil {
			guest = &c.vms[i].MachineGuest
		}
	}
	return guest
}

func (c *Config) hostOf(group string) string {
	if g := c.guestOf(group); g != nil && g.HostDedicationID != "" {
		return g.HostDedicationID
	}
	return c.host
}

func (c *Config) machineFiles() ([]*fly.File, error) {
	config := new(fly.MachineConfig)
	var files []*fly.File
	for _, f := range c.files {
		m := f.File
		if f.local != "" {
			content, ok := c.localContent[f.local]
			if !ok {
				return nil, c.missingContent(f.local)
			}
			encoded := base64.StdEncoding.EncodeToString(content)
			m.RawValue = &encoded
		}
		files = append(files, &m)
	}
	fly.MergeFiles(config, files)
	return config.Files, nil
}

package flytoml

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	fly "github.com/superfly/fly-go"
)

// Metadata and env vars that flyctl sets on every machine of a deploy.
const (
	platformVersion = fly.MachineConfigMetadataKeyFlyPlatformVersion
	processGroup    = fly.MachineConfigMetadataKeyFlyProcessGroup
	envGroup        = "FLY_PROCESS_GROUP"
	envRegion       = "PRIMARY_REGION"
	envStandbyFor   = "FLY_STANDBY_FOR"
)

// ErrReplace is in the error of Update when what fly.toml says can't be given
// to the existing machine, only to a new one in its place.
var ErrReplace = errors.New("the machine would have to be replaced")

// Create is the config of a new machine of group. A group with a mount still
// lacks the volume's ID; a standby, whom it stands by for.
func (c *Config) Create(group, image string) (json.RawMessage, error) {
	config, err := c.wanted(object{}, group, image)
	if err != nil {
		return nil, err
	}
	guest, ok := config["guest"].(object)
	if !ok {
		preset := *fly.MachinePresets[fly.DefaultVMSize]
		if guest, err = toObject(preset); err != nil {
			return nil, err
		}
		config["guest"] = guest
	}
	if c.hostOf(group) != "" {
		guest["host_dedication_id"] = c.hostOf(group)
	}
	return encode(config)
}

// Update is the config wanted of a machine that exists: its own, with the
// fields replaced that fly.toml says. It keeps volumes, standbys, schedule,
// DNS, metadata of others, the guest where there is no [[vm]], and every field
// that is unknown here. What already is as wanted comes back unchanged.
func (c *Config) Update(existing json.RawMessage, group, image string) (json.RawMessage, error) {
	old, err := decode(existing)
	if err != nil {
		return nil, fmt.Errorf("reading the config of a machine: %w", err)
	}
	config, err := c.wanted(old, group, image)
	if err != nil {
		return nil, err
	}
	if config["mounts"], err = keepVolume(old, config); err != nil {
		return nil, err
	}
	if config["mounts"] == nil {
		delete(config, "mounts")
	}
	if services, _ := config["services"].([]any); len(services) > 0 {
		delete(config, "standbys") // what is reachable isn't held back
	}
	host := c.hostOf(group)
	if oldGuest, _ := old["guest"].(object); host != "" && oldGuest["host_dedication_id"] != host {
		return nil, fmt.Errorf("%w: it is not on dedicated host %s", ErrReplace, host)
	}
	if wasStandby(old, config) {
		return encode(old)
	}
	return encode(config)
}

// wasStandby says whether config differs from old only by the env var that
// tells a standby whom it stands by for. It is set at creation and dropped
// with the next change, as flyctl does, but is no reason for one.
func wasStandby(old, config object) bool {
	oldEnv, _ := old["env"].(object)
	who, ok := oldEnv[envStandbyFor]
	if !ok || old["standbys"] == nil || config["standbys"] == nil {
		return false
	}
	env, _ := config["env"].(object)
	env = maps.Clone(env)
	env[envStandbyFor] = who
	with := maps.Clone(config)
	with["env"] = env
	return same(with, old)
}

// wanted is base with everything replaced that fly.toml says, but for what
// depends on volumes.
func (c *Config) wanted(base object, group, image string) (object, error) {
	if !slices.Contains(c.groups, group) {
		return nil, fmt.Errorf("%s: there is no process group %q", c.file, group)
	}
	managed, err := c.managed(group)
	if err != nil {
		return nil, err
	}
	config := clone(base)
	if err := c.mergeMachineConfig(config); err != nil {
		return nil, err
	}
	for _, key := range []string{"metrics", "services", "checks", "env", "statics", "mounts", "stop_config", "files", "restart"} {
		replace(config, managed, key)
	}
	init := child(config, "init")
	for _, key := range []string{"cmd", "entrypoint", "exec", "swap_size_mb"} {
		replace(init, managed["init"].(object), key)
	}
	metadata := child(config, "metadata")
	metadata[platformVersion] = fly.MachineFlyPlatformVersion2
	metadata[processGroup] = group
	if guest, ok := managed["guest"]; ok {
		config["guest"] = guest
	}
	config["image"] = image
	pinContainers(config, image)
	return config, nil
}

// managed are the fields of a machine config that fly.toml says, in fly-go's
// form: what it leaves out when empty, Fly is not told.
func (c *Config) managed(group string) (object, error) {
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
	for _, x := range c.metrics { // the first counts
		if c.applies(group, x.processes) && m.Metrics == nil {
			m.Metrics = &x.MachineMetrics
		}
	}
	for _, x := range c.restarts { // the last counts
		if c.applies(group, x.processes) {
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

// guestOf is the size of a group's machines: of the [[vm]] that names it, else
// of the one for all, else nil.
func (c *Config) guestOf(group string) *fly.MachineGuest {
	var guest *fly.MachineGuest
	named := false
	for i, vm := range c.vms {
		names := slices.Contains(vm.processes, group)
		if names && !named || len(vm.processes) == 0 && guest == nil {
			guest, named = &c.vms[i].MachineGuest, names
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
			content, ok := c.local[f.local]
			if !ok {
				return nil, fmt.Errorf("%s: the content of %s is not known here", c.file, f.local)
			}
			encoded := base64.StdEncoding.EncodeToString(content)
			m.RawValue = &encoded
		}
		files = append(files, &m)
	}
	fly.MergeFiles(config, files)
	return config.Files, nil
}

// keepVolume is the mounts wanted of a machine whose volume can't be changed:
// only where it is mounted, and how it grows.
func keepVolume(old, config object) (any, error) {
	had, _ := old["mounts"].([]any)
	want, _ := config["mounts"].([]any)
	if len(had) == 0 && len(want) == 0 {
		return old["mounts"], nil
	}
	if len(had) == 0 || len(want) == 0 {
		return nil, fmt.Errorf("%w: a volume can't be added to it or taken away", ErrReplace)
	}
	was, _ := had[0].(object)
	now, _ := want[0].(object)
	if was["name"] != nil && was["name"] != "" && was["name"] != now["name"] {
		return nil, fmt.Errorf("%w: it has volume %v, and fly.toml says %v", ErrReplace, was["name"], now["name"])
	}
	keep := maps.Clone(was)
	if was["name"] != nil && was["name"] != "" && was["path"] != now["path"] {
		keep = object{"name": now["name"], "path": now["path"], "volume": was["volume"]}
	}
	for _, key := range []string{"extend_threshold_percent", "add_size_gb", "size_gb_limit"} {
		replace(keep, now, key)
	}
	return append([]any{keep}, want[1:]...), nil
}

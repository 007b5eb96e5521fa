package flytoml

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/microbima/release/internal/rawjson"
)

// ErrReplace is wrapped by the error of GroupMachines.Update if the existing
// machine can't take the config that fly.toml asks for. A new machine in its
// place can: see GroupMachines.Replace.
var ErrReplace = errors.New("the machine would have to be replaced")

// ErrVolume is wrapped by the error of GroupMachines.Update and Replace if the
// config that fly.toml asks for would separate a machine from its volume. The
// operator has to decide whether its data may be lost; flyctl refuses too.
var ErrVolume = errors.New("its volume would be left behind")

// updateConfig implements GroupMachines.Update.
func (c *Config) updateConfig(existing json.RawMessage, group, image string) (json.RawMessage, error) {
	old, config, err := c.mergeExisting(existing, group, image)
	if err != nil {
		return nil, err
	}
	host, had := c.hostOf(group), mountsIn(old)
	guest, _ := old["guest"].(object)
	elsewhere := host != "" && guest["host_dedication_id"] != host
	if elsewhere && len(had) > 0 {
		return nil, fmt.Errorf("%w: it has volume %s, and is not on dedicated host %s; fork the volume to there: fly volume fork --host-dedication-id %s",
			ErrVolume, volumeLabel(had), host, host)
	}
	if config["mounts"], err = wantedMounts(old, config); err != nil {
		return nil, err
	}
	if config["mounts"] == nil {
		delete(config, "mounts")
	}
	if elsewhere {
		return nil, fmt.Errorf("%w: it is not on dedicated host %s", ErrReplace, host)
	}
	if differsOnlyByStandby(old, config) {
		return rawjson.Marshal(old)
	}
	return rawjson.Marshal(config)
}

// replaceConfig implements GroupMachines.Replace.
func (c *Config) replaceConfig(existing json.RawMessage, group, image string) (json.RawMessage, error) {
	if len(existing) == 0 {
		return c.createConfig(group, image)
	}
	old, config, err := c.mergeExisting(existing, group, image)
	if err != nil {
		return nil, err
	}
	if had := mountsIn(old); len(had) > 0 {
		return nil, fmt.Errorf("%w: it has volume %v", ErrVolume, volumeLabel(had))
	}
	if err := c.setNewGuest(config, group); err != nil {
		return nil, err
	}
	return rawjson.Marshal(config)
}

// MachineGroup returns the process group of a machine with that config: the one
// in its metadata, which may be missing in the file, else the default group.
// Only machines with platform metadata belong to a group.
func (c *Config) MachineGroup(config json.RawMessage) string {
	var machine struct {
		Metadata map[string]any `json:"metadata"`
	}
	if err := json.Unmarshal(config, &machine); err != nil {
		return c.defaultGroup()
	}
	if group, _ := machine.Metadata[processGroup].(string); group != "" {
		return group
	}
	if group, _ := machine.Metadata["process_group"].(string); slices.Contains(c.groups, group) { // old name
		return group
	}
	return c.defaultGroup()
}

// mergeExisting returns an existing config decoded, and the wanted one except
// for what depends on volumes and hosts.
func (c *Config) mergeExisting(existing json.RawMessage, group, image string) (old, config object, err error) {
	if old, err = decodeObject(existing); err != nil {
		return nil, nil, fmt.Errorf("reading the config of a machine: %w", err)
	}
	if config, err = c.wantedConfig(old, group, image); err != nil {
		return nil, nil, err
	}
	if services, _ := config["services"].([]any); len(services) > 0 {
		delete(config, "standbys") // a machine with services is not a standby
	}
	return old, config, nil
}

// differsOnlyByStandby reports whether config differs from old only by the env
// var that names the machine a standby stands by for. flyctl sets it at
// creation and drops it with the next change, but the difference alone is no
// reason for a change.
func differsOnlyByStandby(old, config object) bool {
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
	return equalJSON(with, old)
}

// wantedMounts returns the mounts of an updated machine. Its volume can't
// change, only the path and how it grows.
func wantedMounts(old, config object) (any, error) {
	had, want := mountsIn(old), mountsIn(config)
	if len(had) == 0 && len(want) == 0 {
		return old["mounts"], nil
	}
	if len(had) == 0 {
		return nil, fmt.Errorf("%w: a volume can't be added to it", ErrReplace)
	}
	if len(want) == 0 {
		return nil, fmt.Errorf("%w: it has volume %v, and fly.toml has no [[mounts]] for it; "+
			"write the section again, or, if the data may go, destroy the machine: fly machine destroy --force", ErrVolume, volumeLabel(had))
	}
	was, _ := had[0].(object)
	now, _ := want[0].(object)
	if was["name"] != nil && was["name"] != "" && was["name"] != now["name"] {
		return nil, fmt.Errorf("%w: it has volume %v, and fly.toml says source = %q; "+
			"write the old name again, or, if the data may go, destroy the machine: fly machine destroy --force", ErrVolume, volumeLabel(had), now["name"])
	}
	keep := maps.Clone(was)
	if was["name"] != nil && was["name"] != "" && was["path"] != now["path"] {
		keep = object{"name": now["name"], "path": now["path"], "volume": was["volume"]}
	}
	for _, key := range []string{"extend_threshold_percent", "add_size_gb", "size_gb_limit"} {
		replaceKey(keep, now, key)
	}
	return append([]any{keep}, want[1:]...), nil
}

func mountsIn(config object) []any {
	mounts, _ := config["mounts"].([]any)
	return mounts
}

// volumeLabel returns the ID and name of the first volume, for messages.
func volumeLabel(mounts []any) string {
	m, _ := mounts[0].(object)
	id, name := textOf(m["volume"]), textOf(m["name"])
	if name == "" {
		return id
	}
	return strings.TrimSpace(id + " (" + name + ")")
}

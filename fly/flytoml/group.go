package flytoml

import "encoding/json"

// A Group is a process group: machines that run one command.
type Group struct {
	Name     string
	Services bool   // the group has a service, so that it can be reached from outside
	Mount    *Mount // nil: its machines have no volume
}

// Groups returns the process groups, sorted by name.
func (c *Config) Groups() []Group {
	groups := make([]Group, len(c.groups))
	for i, name := range c.groups {
		groups[i] = c.group(name)
	}
	return groups
}

func (c *Config) group(name string) Group {
	g := Group{Name: name, Services: len(c.servicesOf(name)) > 0}
	if mounts := c.mountsOf(name); len(mounts) > 0 {
		g.Mount = &mounts[0]
	}
	return g
}

// GroupMachines describes the machines of a process group that run one image.
type GroupMachines struct {
	Group
	// New is the config of a new machine. It lacks the ID of its volume and, for
	// a standby, the machine that it stands by for.
	New json.RawMessage
	// Volume is the volume to create for a new machine if there is no free one
	// of its name. Nil: the group mounts none. Its region is that of the file;
	// a machine in another region needs one there.
	//
	// flyctl creates volumes only in the first deploy of an app, one for each
	// group. After that the operator has to create them.
	Volume *Volume
	// MachineChecks are the configs of the machines that test a machine of the
	// group, one for each machine_checks section that applies to it. The
	// address of the tested machine, FLY_TEST_MACHINE_IP, is empty.
	MachineChecks []json.RawMessage

	config *Config
	image  string
}

// Group returns the configs of a process group's machines that run image. The
// error is a *Problem if the fault is in the file's machine_config.
func (c *Config) Group(name, image string) (*GroupMachines, error) {
	created, err := c.createConfig(name, image)
	if err != nil {
		return nil, err
	}
	g := &GroupMachines{Group: c.group(name), New: created, config: c, image: image}
	if g.Volume, err = c.newVolume(g.Mount, created, image); err != nil {
		return nil, err
	}
	if g.MachineChecks, err = c.machineCheckConfigs(name, created, ""); err != nil {
		return nil, err
	}
	return g, nil
}

// Update returns the config for an existing machine of the group: its own, with
// the fields replaced that fly.toml sets. It keeps volumes, standbys, schedule,
// DNS, metadata of others, the guest where there is no [[vm]], and every field
// that this package does not know. A config that needs no change is returned
// unchanged.
//
// The error is ErrReplace for a machine that gains a mount or has to move to
// another dedicated host, ErrVolume for one that would lose its volume.
func (g *GroupMachines) Update(existing json.RawMessage) (json.RawMessage, error) {
	return g.config.updateConfig(existing, g.Name, g.image)
}

// Replace returns the config of a new machine that takes the place of an
// existing one, which is lost or can't be updated: everything that Update would
// keep, and a mount that still lacks its volume's ID. For a machine on an
// unreachable host, existing is the part of its config that Fly still reports,
// or empty.
func (g *GroupMachines) Replace(existing json.RawMessage) (json.RawMessage, error) {
	return g.config.replaceConfig(existing, g.Name, g.image)
}

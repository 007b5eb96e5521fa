package flytoml

import (
	"encoding/json"
	"slices"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
	"github.com/microbima/release/internal/rawjson"
)

// Sizes of volumes without a size in the file, in GB.
const (
	volumeSize    = 1
	volumeSizeGPU = 100
)

// A Volume is a volume to create for a new machine of a group. Its JSON is the
// body of POST /v1/apps/{app}/volumes.
type Volume struct {
	Name      string          `json:"name"`
	Region    string          `json:"region"`
	SizeGB    int             `json:"size_gb"`
	Encrypted bool            `json:"encrypted"`
	Retention *int            `json:"snapshot_retention,omitempty"`  // days a snapshot is kept; nil: Fly's default
	Snapshots *bool           `json:"auto_backup_enabled,omitempty"` // daily ones; nil: Fly's default
	Guest     json.RawMessage `json:"compute,omitempty"`             // the size of machine that the host needs capacity for
	Image     string          `json:"compute_image,omitempty"`
}

// newVolume returns the volume to create for a machine with the given config;
// nil if the group has no mount.
func (c *Config) newVolume(m *Mount, config json.RawMessage, image string) (*Volume, error) {
	if m == nil {
		return nil, nil
	}
	o, err := decodeObject(config)
	if err != nil {
		return nil, err
	}
	guest, _ := o["guest"].(object)
	v := &Volume{
		Name: m.Name, Region: c.region, SizeGB: m.InitialSizeGB, Encrypted: true,
		Snapshots: m.Snapshots, Image: image,
	}
	if m.Retention > 0 {
		v.Retention = &m.Retention
	}
	switch {
	case v.SizeGB > 0:
	case textOf(guest["gpu_kind"]) != "":
		v.SizeGB = volumeSizeGPU
	default:
		v.SizeGB = volumeSize
	}
	v.Guest, err = rawjson.Marshal(guest)
	return v, err
}

// Addresses returns the types of IP addresses to request, in order, for an app
// that has none when it gets its first machines: v6 and shared_v4 if the app
// has services. A service that is not plain HTTP needs dedicated addresses,
// which cost money; like flyctl without a terminal, a release does not request
// them, and Parse warns.
func (c *Config) Addresses() []string {
	if !c.Reachable() || slices.ContainsFunc(c.services, service.needsDedicatedIP) {
		return nil
	}
	return []string{"v6", "shared_v4"}
}

// Reachable reports whether the app has a service, so that it can be reached
// from outside its machines.
func (c *Config) Reachable() bool { return len(c.services) > 0 }

// needsDedicatedIP reports whether a service can't share an IPv4 with other
// apps, which Fly routes by HTTP host.
func (s service) needsDedicatedIP() bool {
	if s.path == "http_service" {
		return false
	}
	return s.Protocol == "udp" || s.Protocol == "tcp" && slices.ContainsFunc(s.Ports, isDedicatedPort)
}

func isDedicatedPort(p fly.MachinePort) bool {
	plain := slices.Equal(p.Handlers, []string{"http"})
	secure := slices.Equal(p.Handlers, []string{"http", "tls"}) || slices.Equal(p.Handlers, []string{"tls", "http"})
	return p.HasNonHttpPorts() || p.ContainsPort(80) && !plain || p.ContainsPort(443) && !secure
}

// warnAddress warns about addresses that a service needs and no rollout
// requests.
func (r *reader) warnAddress(t *tomldoc.Table, s service) {
	if !s.needsDedicatedIP() {
		return
	}
	key, ways := "protocol", "`fly ips allocate-v4 -a "+r.c.app+"`"
	if s.Protocol != "udp" {
		ways += " and `fly ips allocate-v6 -a " + r.c.app + "`"
		key = "ports"
	}
	t.Warnf(key, "a service that is not plain HTTP needs a dedicated IP address, which costs money and is not requested by a rollout; if the app has none yet: %s", ways)
}

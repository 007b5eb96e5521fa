// Package machineconfig reads Fly's machine configs. It computes the facts of a
// release.Config, so that plans and verdicts read no JSON of Fly.
package machineconfig

import (
	"encoding/json"

	"github.com/microbima/release/internal/rawjson"
	"github.com/microbima/release/release"
)

// A Config is a machine config with what the driver needs of it besides the facts of
// release.Config. Configs of a Reader are shared: callers must not change them.
type Config struct {
	release.Config
	Image    release.Image
	Metadata map[string]string // nil if the document has none
}

// Read returns the facts about a machine config. It computes them without a cache: see
// Reader. A document that is not JSON equals only itself. The config of no document is
// the zero Config.
func Read(doc json.RawMessage) release.Config { return parse(doc).Config }

// Canonical returns doc in one form: keys sorted, no white space, numbers as they were
// written. It returns a document that is not JSON unchanged.
func Canonical(doc json.RawMessage) json.RawMessage {
	v, err := rawjson.Decode(doc)
	if err != nil {
		return doc
	}
	return rawjson.MustMarshal(v)
}

// A document has the fields of Fly's machine config that facts are computed from.
type document struct {
	Image    release.Image
	Metadata map[string]string
	Standbys []string
	Restart  struct{ Policy string }
	Checks   map[string]struct{ Port int }
	Services []service
}

type service struct {
	Protocol     string
	InternalPort int `json:"internal_port"`
	Autostart    *bool
	Autostop     any // true, "stop" or "suspend"; anything else is off
	Checks       []json.RawMessage
}

func parse(doc json.RawMessage) *Config {
	if len(doc) == 0 {
		return &Config{}
	}
	var d document
	_ = json.Unmarshal(doc, &d) // a field of another type is left out
	same, exact := fingerprints(doc)
	c := &Config{Image: d.Image, Metadata: d.Metadata}
	c.Config = release.Config{Doc: doc, Computed: &release.ConfigFacts{
		Fingerprint:      same,
		ExactFingerprint: exact,
		WantedChecks:     d.countChecks(),
		UncheckedPorts:   d.uncheckedPorts(),
		StandbyFor:       d.standbyFor(),
		RestartPolicy:    d.Restart.Policy,
		HasServices:      len(d.Services) > 0,
		Autostart:        d.hasAutostart(),
		Autostop:         d.hasAutostop(),
		Origin: release.Origin{
			Release: d.Metadata[release.MetaRelease], Revision: d.Metadata[release.MetaRevision], Machine: d.Metadata[release.MetaMachine],
			FlyRelease: d.Metadata[flyReleaseKey], FlyVersion: d.Metadata[flyVersionKey], Client: d.Metadata[flyClientKey],
		},
	}}
	return c
}

// countChecks returns the number of health checks.
func (d document) countChecks() int {
	n := len(d.Checks)
	for _, s := range d.Services {
		n += len(s.Checks)
	}
	return n
}

// standbyFor returns the ID of the machine that the config is a standby for, or "".
func (d document) standbyFor() string {
	if len(d.Standbys) == 0 {
		return ""
	}
	return d.Standbys[0]
}

// hasAutostart reports whether Fly's proxy starts the machine for a request. That is
// Fly's default for a service.
func (d document) hasAutostart() bool {
	for _, s := range d.Services {
		if s.Autostart == nil || *s.Autostart {
			return true
		}
	}
	return false
}

// hasAutostop reports whether Fly's proxy may stop the machine while it is idle.
func (d document) hasAutostop() bool {
	for _, s := range d.Services {
		if s.Autostop == true || s.Autostop == "stop" || s.Autostop == "suspend" {
			return true
		}
	}
	return false
}

// uncheckedPorts returns the internal ports of the TCP services that have no check.
func (d document) uncheckedPorts() (ports []int) {
	seen := map[int]bool{0: true}
	for _, check := range d.Checks {
		seen[check.Port] = true
	}
	for _, s := range d.Services {
		seen[s.InternalPort] = seen[s.InternalPort] || len(s.Checks) > 0
	}
	for _, s := range d.Services {
		if s.Protocol != "udp" && !seen[s.InternalPort] {
			seen[s.InternalPort] = true
			ports = append(ports, s.InternalPort)
		}
	}
	return ports
}

package release

import "encoding/json"

// A Config is a machine config: a document that this package stores and does not read,
// and the facts about it that plans and verdicts use. fly/machineconfig computes them
// when a machine is observed and when a spec is made. The zero value is the config of a
// machine of which Fly reports none.
type Config struct {
	Doc      json.RawMessage `json:"doc"`
	Computed *ConfigFacts    `json:"facts,omitempty"` // nil without a document: see Facts
}

// ConfigFacts are the facts about a machine config. Configs share them: they must not be
// changed.
type ConfigFacts struct {
	// Fingerprint is equal for configs that request the same machine. It ignores the
	// Origin, the IDs of volumes and of the machine that a standby replaces (no plan
	// contains those IDs), the size and encryption that Fly reports of a volume, the
	// repository of an image that has a digest, and empty objects and lists, which Fly
	// adds and removes.
	Fingerprint string `json:"fingerprint"`
	// ExactFingerprint is equal for equal documents. It ignores only the size and
	// encryption of volumes, which Fly adds and which old configs may lack.
	ExactFingerprint string `json:"exact_fingerprint"`
	// WantedChecks is the number of health checks. The result of a machine that reports
	// fewer checks is not known yet.
	WantedChecks   int    `json:"wanted_checks,omitempty"`
	UncheckedPorts []int  `json:"unchecked_ports,omitempty"` // internal TCP ports of services without a check
	StandbyFor     string `json:"standby_for,omitempty"`     // ID of the machine that it is a standby for
	RestartPolicy  string `json:"restart_policy,omitempty"`  // as in Fly's config; "" is on-failure
	HasServices    bool   `json:"has_services,omitempty"`    // Fly's proxy routes traffic to the machine
	Autostart      bool   `json:"autostart,omitempty"`       // Fly's proxy starts the machine for a request
	Autostop       bool   `json:"autostop,omitempty"`        // Fly's proxy may stop the machine while it is idle
	Origin         Origin `json:"origin,omitzero"`
}

// An Origin identifies the release that made a machine version: the metadata of this
// program, and Fly's own release record.
type Origin struct {
	Release    string `json:"release,omitempty"`     // workflow ID of the release
	Revision   string `json:"revision,omitempty"`    // full commit
	Machine    string `json:"machine,omitempty"`     // planned name, if a plan created the machine
	FlyRelease string `json:"fly_release,omitempty"` // ID of the Fly release
	FlyVersion string `json:"fly_version,omitempty"` // version of the Fly release
	Client     string `json:"client,omitempty"`      // name or version of the client that changed the machine last
}

// withoutMachine returns o without Machine: what the machines of one release share.
func (o Origin) withoutMachine() Origin {
	o.Machine = ""
	return o
}

// Facts returns the facts about c. They are zero if it has no document.
func (c Config) Facts() *ConfigFacts {
	if c.Computed == nil {
		return new(ConfigFacts)
	}
	return c.Computed
}

// IsZero reports whether c has no document.
func (c Config) IsZero() bool { return len(c.Doc) == 0 }

// IsSame reports whether c and other request the same machine: see ConfigFacts.Fingerprint.
func (c Config) IsSame(other Config) bool { return c.Facts().Fingerprint == other.Facts().Fingerprint }

// isEqual reports whether c and other have equal documents: see ConfigFacts.ExactFingerprint.
func (c Config) isEqual(other Config) bool {
	return c.Facts().ExactFingerprint == other.Facts().ExactFingerprint
}

// NeverRestarts reports whether Fly leaves a machine with this config stopped after any
// exit.
func (f *ConfigFacts) NeverRestarts() bool { return f.RestartPolicy == "no" }

// staysStoppedOnSuccess reports whether the restart policy leaves a machine stopped after
// exit code 0. Fly's default, on-failure, does.
func (f *ConfigFacts) staysStoppedOnSuccess() bool { return f.RestartPolicy != "always" }

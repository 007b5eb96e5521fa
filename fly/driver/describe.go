package driver

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// Describe returns the release.Machine of a Fly machine.
func Describe(m fly.Machine) release.Machine {
	return describeMachine(m, new(machineconfig.Reader).Read(configOf(m)))
}

// describe is Describe with the configs that the memory has.
func (d *Driver) describe(m fly.Machine) release.Machine {
	return describeMachine(m, d.memory().configs.Read(configOf(m)))
}

// readConfig returns the facts about a machine config.
func (d *Driver) readConfig(doc json.RawMessage) release.Config {
	return d.memory().configs.Read(doc).Config
}

// describeMachine returns the release.Machine of m, whose config is config.
func describeMachine(m fly.Machine, config *machineconfig.Config) release.Machine {
	group := cmp.Or(config.Metadata["fly_process_group"], config.Metadata["process_group"], "app")
	out := release.Machine{
		ID: m.ID, Name: m.Name, Group: group, Region: m.Region,
		State: m.State, Version: m.InstanceID, Image: imageOf(m, config), Config: config.Config,
		Cordoned: m.Cordoned, Release: config.Facts().Origin.Release, Revision: config.Facts().Origin.Revision,
		CreatedByPlan: m.Name != "" && config.Facts().Origin.Machine == m.Name, Updated: m.UpdatedAt, VersionTime: m.VersionTime(),
	}
	if by := config.Facts().Origin.Client; by != fly.ClientVersion {
		out.Client = by // flyctl keeps our metadata on machines that it changes
	}
	if x, ok := m.UnrequestedExit(); ok {
		out.Exit = &release.Exit{Code: x.Code, OOM: x.OOM, Restarts: x.RestartCount, At: x.At}
	}
	out.Crashed = m.Crashed() && !config.Facts().NeverRestarts()
	if m.HostStatus != "ok" {
		out.Host = m.HostStatus
	}
	for _, c := range m.Checks {
		out.Checks = append(out.Checks, release.Check{Name: c.Name, Status: c.Status, Output: lastBytes(c.Output, 400)})
	}
	return out
}

// isHostAway reports whether the host of m is unreachable. Fly then returns old facts
// of m.
func isHostAway(m fly.Machine) bool { return m.HostStatus != "ok" && m.HostStatus != "" }

// isTransitional reports whether a machine leaves that state without a request.
func isTransitional(state string) bool {
	return slices.Contains([]string{"creating", "starting", "stopping", "restarting", "suspending", "destroying", "updating", "replacing"}, state)
}

// configOf returns the config of m, or the part that Fly returns of an unreachable one.
func configOf(m fly.Machine) json.RawMessage {
	if len(m.Config) > 0 {
		return m.Config
	}
	return m.IncompleteConfig
}

// imageOf returns the image of m with its digest. If Fly returns no digest, it returns
// the reference in config, the config of m.
func imageOf(m fly.Machine, config *machineconfig.Config) release.Image {
	if m.ImageRef.Digest != "" {
		ref := m.ImageRef
		ref.Tag = ""
		return release.Image(ref.String())
	}
	return config.Image
}

// isOn reports whether m is in the state after s: its config, release and image.
func isOn(m release.Machine, s release.Step, want release.Config) bool {
	return m.Config.IsSame(want) && m.Config.Facts().Origin == want.Facts().Origin &&
		(s.To == "" || m.Image.Digest() == s.To.Digest())
}

// lastBytes returns the end of s, at most n bytes of it.
func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}

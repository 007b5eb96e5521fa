package driver

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// Describe returns the release.Machine of a Fly machine.
func Describe(m fly.Machine) release.Machine {
	return describeWithMetadata(m, release.ParseMetadata(configOf(m)))
}

// describeWithMetadata is Describe for a machine whose config has that metadata.
func describeWithMetadata(m fly.Machine, meta map[string]string) release.Machine {
	out := release.Machine{
		ID: m.ID, Name: m.Name, Group: cmp.Or(meta["fly_process_group"], meta["process_group"], "app"), Region: m.Region,
		State: m.State, Version: m.InstanceID, Image: imageOf(m), Config: configOf(m),
		Cordoned: m.Cordoned, Release: meta[release.MetaRelease], Revision: meta[release.MetaRevision],
		CreatedByPlan: m.Name != "" && meta[release.MetaMachine] == m.Name, Updated: m.UpdatedAt, VersionTime: m.VersionTime(),
	}
	if by := meta["fly_flyctl_version"]; by != fly.ClientVersion {
		out.Client = by // flyctl keeps our metadata on machines that it changes
	}
	if x, ok := m.UnrequestedExit(); ok {
		out.Exit = &release.Exit{Code: x.Code, OOM: x.OOM, Restarts: x.RestartCount, At: x.At}
	}
	out.Crashed = m.Crashed() && !release.NeverRestarts(out.Config)
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
// the reference in the config.
func imageOf(m fly.Machine) release.Image {
	if m.ImageRef.Digest != "" {
		ref := m.ImageRef
		ref.Tag = ""
		return release.Image(ref.String())
	}
	var c struct{ Image release.Image }
	if json.Unmarshal(configOf(m), &c) != nil {
		return ""
	}
	return c.Image
}

// isOn reports whether m is in the state after s: its config, release and image.
func isOn(m fly.Machine, s release.Step, want json.RawMessage) bool {
	return release.IsSameConfig(m.Config, want) && release.IsSameRelease(m.Config, want) &&
		(s.To == "" || imageOf(m).Digest() == s.To.Digest())
}

// lastBytes returns the end of s, at most n bytes of it.
func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}

package driver

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/release"
)

// Describe returns a Fly machine as releases see it.
func Describe(m fly.Machine) release.Machine { return describe(m, release.Metadata(configOf(m))) }

func describe(m fly.Machine, meta map[string]string) release.Machine {
	out := release.Machine{
		ID: m.ID, Name: m.Name, Group: cmp.Or(meta["fly_process_group"], meta["process_group"], "app"), Region: m.Region,
		State: m.State, Version: m.InstanceID, Image: imageOf(m), Config: configOf(m),
		Cordoned: m.Cordoned, Release: meta[release.MetaRelease], Revision: meta[release.MetaRevision],
		Created: m.Name != "" && meta[release.MetaMachine] == m.Name, Updated: m.UpdatedAt, Made: m.VersionTime(),
	}
	if by := meta["fly_flyctl_version"]; by != fly.ClientVersion {
		out.Client = by // flyctl leaves our metadata on the machines that it changes
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

// isHostAway reports whether the host of m cannot be reached: Fly tells only old
// facts of m then.
func isHostAway(m fly.Machine) bool { return m.HostStatus != "ok" && m.HostStatus != "" }

// isTransitional reports whether a machine leaves that state by itself.
func isTransitional(state string) bool {
	return slices.Contains([]string{"creating", "starting", "stopping", "restarting", "suspending", "destroying", "updating", "replacing"}, state)
}

func configOf(m fly.Machine) json.RawMessage {
	if len(m.Config) > 0 {
		return m.Config
	}
	return m.IncompleteConfig
}

// imageOf returns the image that m runs, with the digest that its reference had when
// the machine was made. Where Fly does not tell it, the config's reference is used.
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

// isOn reports whether m is as s makes it: the config, by the same release, and the
// image.
func isOn(m fly.Machine, s release.Step, want json.RawMessage) bool {
	return release.SameConfig(m.Config, want) && release.SameStamps(m.Config, want) &&
		(s.To == "" || imageOf(m).Digest() == s.To.Digest())
}

// lastBytes returns the end of s, at most n bytes of it.
func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}

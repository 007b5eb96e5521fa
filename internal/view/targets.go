package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// A TargetState is the state of a target and its drift, or the error of reading it.
type TargetState struct {
	State   release.State `json:"state"`
	Drift   []string      `json:"drift,omitempty"`
	Unknown string        `json:"unknown,omitempty"`
	// Missing is set if the Fly app does not exist yet: how to create it.
	Missing string `json:"missing,omitempty"`
	// Pin is the pin of the environment.
	Pin *release.Pin `json:"pin,omitempty"`
}

// TargetStates shows targets by environment: the running revision of each, since when,
// by which release, and its drift.
func TargetStates(targets []TargetState, now time.Time, style Style) string {
	var b strings.Builder
	environment := ""
	for _, t := range escapeAll(targets) {
		if t.State.Target.Environment != environment {
			if environment != "" {
				b.WriteString("\n")
			}
			environment = t.State.Target.Environment
			b.WriteString(style.paint(bold, environment) + "\n" + pinText(environment, t.Pin, style))
		}
		t.write(&b, now, style)
	}
	return b.String()
}

func (t TargetState) write(b *strings.Builder, now time.Time, style Style) {
	app := t.State.Target.App
	if t.Unknown != "" {
		fmt.Fprintf(b, "  %s %s: unknown: %s\n", style.paint(red, "?"), app, t.Unknown)
		return
	}
	if t.Missing != "" {
		fmt.Fprintf(b, "  %s %s: never released; there is no Fly app %s: %s\n", style.paint(dim, "·"), app, t.State.FlyApp, t.Missing)
		return
	}
	if len(t.State.Machines) == 0 {
		fmt.Fprintf(b, "  %s %s: no machines in %s\n", style.paint(dim, "·"), app, t.State.FlyApp)
		return
	}
	sign, h := "✓", green
	if len(t.Drift) > 0 {
		sign, h = "!", yellow
	}
	line := "  " + style.paint(h, sign) + " " + app + " " + style.paint(bold, cmp.Or(revisionList(t.State), "no release of this program"))
	if since := latestUpdate(t.State); !since.IsZero() {
		line += fmt.Sprintf(", since %s (%s)", style.day(since), Duration(now.Sub(since)))
	}
	line += ", " + count(len(t.State.Machines), "machine")
	if by := releaseList(t.State); by != "" {
		line += style.paint(dim, ", by "+by)
	}
	b.WriteString(line + "\n")
	if t.State.URL != "" && !t.State.Private {
		fmt.Fprintf(b, "      %s\n", style.paint(dim, t.State.URL))
	}
	for _, d := range t.Drift {
		fmt.Fprintf(b, "      %s\n", style.paint(yellow, d))
	}
	for _, f := range t.State.Foreign {
		fmt.Fprintf(b, "      %s\n", style.paint(dim, f+" is not managed by releases and is left alone"))
	}
}

func distinctValues(s release.State, of func(release.Machine) string) (values []string) {
	for _, m := range s.Machines {
		if v := of(m); v != "" && !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return values
}

func revisionList(s release.State) string {
	return strings.Join(distinctValues(s, func(m release.Machine) string { return release.Revision{Commit: m.Revision}.Short() }), " and ")
}

func releaseList(s release.State) string {
	return strings.Join(distinctValues(s, func(m release.Machine) string { return m.Release }), " and ")
}

func latestUpdate(s release.State) (t time.Time) {
	for _, m := range s.Machines {
		if m.Updated.After(t) {
			t = m.Updated
		}
	}
	return t
}

// Drift returns a line for each way in which the machines of a target differ from each
// other or are unhealthy: images, revisions, config within a group, checks.
func Drift(s release.State) (drift []string) {
	if images := distinctValues(s, func(m release.Machine) string { return Digest(m.Image) }); len(images) > 1 {
		drift = append(drift, "its machines run different images: "+strings.Join(images, ", "))
	}
	if len(distinctValues(s, func(m release.Machine) string { return m.Revision })) > 1 {
		drift = append(drift, "its machines run different revisions: "+revisionList(s))
	}
	drift = append(drift, externalChanges(s)...)
	for i, m := range s.Machines {
		for _, text := range machineDrift(s, i) {
			drift = append(drift, fmt.Sprintf("machine %s (%s, %s) %s", m.ID, m.Group, m.Region, text))
		}
	}
	return drift
}

// machineDrift returns the drift of machine i: its own state, and how its config differs
// from the first machine of its group.
func machineDrift(s release.State, i int) (drift []string) {
	m := s.Machines[i]
	add := func(format string, args ...any) { drift = append(drift, fmt.Sprintf(format, args...)) }
	if m.Release == "" && revisionList(s) != "" {
		add("was last changed by something other than a release")
	}
	if m.Cordoned {
		add("is cordoned")
	}
	if m.Host != "" {
		add("is on a host that is %s", m.Host)
	}
	if !m.IsRunning() && m.State != "stopped" && m.State != "suspended" {
		add("is %s", m.State)
	}
	for _, c := range m.Checks {
		if m.IsRunning() && c.Status != "passing" {
			add("fails check %s: %s %s", c.Name, c.Status, oneLine(c.Output, 120))
		}
	}
	first := slices.IndexFunc(s.Machines, func(o release.Machine) bool { return o.Group == m.Group })
	if first < i {
		if diff := withoutOwnFields(Difference(s.Machines[first].Config.Doc, m.Config.Doc)); len(diff) > 0 {
			add("has a different config than %s: %s", s.Machines[first].ID, strings.Join(diff, "; "))
		}
	}
	return drift
}

// externalChanges returns a line if another client changed machines after the release
// that they name. flyctl keeps that name in their metadata, so they may run another
// revision.
func externalChanges(s release.State) (drift []string) {
	since := s
	since.Machines = slices.DeleteFunc(slices.Clone(s.Machines), func(m release.Machine) bool { return m.Release == "" || m.Client == "" })
	if n := len(since.Machines); n > 0 {
		clients := strings.Join(distinctValues(since, func(m release.Machine) string { return m.Client }), " and ")
		drift = append(drift, count(n, "machine")+" changed after that release, by another client: fly_flyctl_version is "+clients)
	}
	return drift
}

// ownFields lists the fields that differ between machines of a group by design: volumes,
// standbys, and the marks of flyctl's blue-green deploys.
var ownFields = []string{"mounts", "standbys", "env.FLY_STANDBY_FOR", "metadata.fly_flyctl_bluegreen_launch_id", "metadata.fly_bluegreen_deployment_tag"}

// withoutOwnFields returns diff without the lines of ownFields.
func withoutOwnFields(diff []string) []string {
	return slices.DeleteFunc(diff, func(line string) bool {
		return slices.ContainsFunc(ownFields, func(path string) bool { return strings.HasPrefix(line, path) })
	})
}

package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/release"
)

// A Place is a target and what Fly says it runs, or why that is not known.
type Place struct {
	State   release.State `json:"state"`
	Drift   []string      `json:"drift,omitempty"`
	Unknown string        `json:"unknown,omitempty"`
	// Missing says how the Fly app is made that is not there yet: nothing was
	// ever released to it.
	Missing string `json:"missing,omitempty"`
	// Pin is that of its environment.
	Pin *release.Pin `json:"pin,omitempty"`
}

// Places is what runs where: for each target its revision, since when, by which
// release, and what is not as a release left it.
func Places(places []Place, now time.Time, style Style) string {
	var b strings.Builder
	environment := ""
	for _, p := range clean(places) {
		if p.State.Target.Environment != environment {
			if environment != "" {
				b.WriteString("\n")
			}
			environment = p.State.Target.Environment
			b.WriteString(style.paint(bold, environment) + "\n" + pinText(environment, p.Pin, style))
		}
		p.write(&b, now, style)
	}
	return b.String()
}

func (p Place) write(b *strings.Builder, now time.Time, style Style) {
	app := p.State.Target.App
	if p.Unknown != "" {
		fmt.Fprintf(b, "  %s %s: not known: %s\n", style.paint(red, "?"), app, p.Unknown)
		return
	}
	if p.Missing != "" {
		fmt.Fprintf(b, "  %s %s: never released; there is no Fly app %s: %s\n", style.paint(dim, "·"), app, p.State.FlyApp, p.Missing)
		return
	}
	if len(p.State.Machines) == 0 {
		fmt.Fprintf(b, "  %s %s: no machines in %s\n", style.paint(dim, "·"), app, p.State.FlyApp)
		return
	}
	sign, h := "✓", green
	if len(p.Drift) > 0 {
		sign, h = "!", yellow
	}
	line := "  " + style.paint(h, sign) + " " + app + " " + style.paint(bold, cmp.Or(revisions(p.State), "no release of this program"))
	if since := newest(p.State); !since.IsZero() {
		line += fmt.Sprintf(", since %s (%s)", style.day(since), Took(now.Sub(since)))
	}
	line += ", " + count(len(p.State.Machines), "machine")
	if by := releases(p.State); by != "" {
		line += style.paint(dim, ", by "+by)
	}
	b.WriteString(line + "\n")
	if p.State.URL != "" && !p.State.Private {
		fmt.Fprintf(b, "      %s\n", style.paint(dim, p.State.URL))
	}
	for _, d := range p.Drift {
		fmt.Fprintf(b, "      %s\n", style.paint(yellow, d))
	}
	for _, f := range p.State.Foreign {
		fmt.Fprintf(b, "      %s\n", style.paint(dim, f+" was made by no deploy and is left alone"))
	}
}

func distinct(s release.State, of func(release.Machine) string) (values []string) {
	for _, m := range s.Machines {
		if v := of(m); v != "" && !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return values
}

func revisions(s release.State) string {
	return strings.Join(distinct(s, func(m release.Machine) string { return release.Revision{Commit: m.Revision}.Short() }), " and ")
}

func releases(s release.State) string {
	return strings.Join(distinct(s, func(m release.Machine) string { return m.Release }), " and ")
}

func newest(s release.State) (t time.Time) {
	for _, m := range s.Machines {
		if m.Updated.After(t) {
			t = m.Updated
		}
	}
	return t
}

// Drift says, a sentence each, in what the machines of a target differ from
// each other and from health: images, revisions, config within a group, checks.
func Drift(s release.State) (drift []string) {
	if images := distinct(s, func(m release.Machine) string { return Digest(m.Image) }); len(images) > 1 {
		drift = append(drift, "its machines run different images: "+strings.Join(images, ", "))
	}
	if len(distinct(s, func(m release.Machine) string { return m.Revision })) > 1 {
		drift = append(drift, "its machines run different revisions: "+revisions(s))
	}
	drift = append(drift, changedSince(s)...)
	for i, m := range s.Machines {
		say := func(format string, args ...any) {
			drift = append(drift, fmt.Sprintf("machine %s (%s, %s) ", m.ID, m.Group, m.Region)+fmt.Sprintf(format, args...))
		}
		if m.Release == "" && revisions(s) != "" {
			say("was changed by no release of this program")
		}
		if m.Cordoned {
			say("is cordoned")
		}
		if m.Host != "" {
			say("is on a host that is %s", m.Host)
		}
		if !m.Running() && m.State != "stopped" && m.State != "suspended" {
			say("is %s", m.State)
		}
		for _, c := range m.Checks {
			if m.Running() && c.Status != "passing" {
				say("fails check %s: %s %s", c.Name, c.Status, oneLine(c.Output, 120))
			}
		}
		first := slices.IndexFunc(s.Machines, func(o release.Machine) bool { return o.Group == m.Group })
		if first < i {
			if diff := notOwn(Difference(s.Machines[first].Config, m.Config)); len(diff) > 0 {
				say("has another config than %s: %s", s.Machines[first].ID, strings.Join(diff, "; "))
			}
		}
	}
	return drift
}

// changedSince says of machines that name a release whether somebody else has
// changed them after it: flyctl leaves that name on them, so what they run may be
// of another revision.
func changedSince(s release.State) (drift []string) {
	since := s
	since.Machines = slices.DeleteFunc(slices.Clone(s.Machines), func(m release.Machine) bool { return m.Release == "" || m.Client == "" })
	if n := len(since.Machines); n > 0 {
		clients := strings.Join(distinct(since, func(m release.Machine) string { return m.Client }), " and ")
		drift = append(drift, count(n, "machine")+" changed after that release, by another client: fly_flyctl_version is "+clients)
	}
	return drift
}

// own is what each machine has of its own: its volumes, for whom it stands by,
// and what flyctl's blue-green deploys recognise it by.
var own = []string{"mounts", "standbys", "env.FLY_STANDBY_FOR", "metadata.fly_flyctl_bluegreen_launch_id", "metadata.fly_bluegreen_deployment_tag"}

// notOwn leaves out what each machine has of its own.
func notOwn(diff []string) []string {
	return slices.DeleteFunc(diff, func(line string) bool {
		return slices.ContainsFunc(own, func(path string) bool { return strings.HasPrefix(line, path) })
	})
}

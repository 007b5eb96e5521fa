package view

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// Plan shows a plan: what changes in each target, the config fields that differ, and
// the waves in order. Targets with equal changes are shown together; style.Whole shows
// each target separately, and long values in full.
func Plan(p release.Plan, style Style) string {
	p = escapeAll(p)
	var b strings.Builder
	title := "Plan for " + p.Environment
	if p.Hash != "" {
		title += " " + p.ShortHash()
	}
	b.WriteString(style.paint(bold, title) + "\n")
	for _, line := range lineageLines(p) {
		b.WriteString(style.wrap("  "+style.paint(yellow, "!")+" ", line))
	}
	for _, part := range planParts(p, style.Whole) {
		part.write(&b, style)
	}
	if p.IsEmpty() {
		b.WriteString("\nNothing to change: everything runs already as planned.\n")
		return b.String()
	}
	b.WriteString("\n" + style.paint(bold, "In this order") + "\n")
	for i, line := range waveLines(p, style.Whole) {
		b.WriteString(style.wrap(fmt.Sprintf("  %d. ", i+1), line))
	}
	return b.String()
}

// probeText returns the request of a probe, and the setting that changes it.
func probeText(t release.TargetPlan) string {
	line := t.Probe.Describe(t.URL)
	if len(t.Probe.Headers) > 0 {
		line += " with " + strings.Join(slices.Sorted(maps.Keys(t.Probe.Headers)), ", ")
	}
	if t.Probe.Setting != "" {
		line += " (" + t.Probe.Setting + ")"
	}
	return line
}

// A planPart describes targets whose changes are equal except for the digests.
type planPart struct {
	apps    []string
	changed bool
	head    string   // text after the names
	flyApps string   // the Fly app, with {app} for the app's name
	images  []string // per app, as one line
	lines   []string
	probe   string // with {url} for the target's URL, and {app}
	url     string // of the first target
	notes   []string
}

// planParts returns the changes of a plan's targets. Targets with equal texts share a
// part, unless each is true.
func planParts(p release.Plan, each bool) (parts []planPart) {
	for _, t := range p.Targets {
		next := targetPart(p, t, each)
		i := slices.IndexFunc(parts, func(o planPart) bool { return !each && o.isSame(next) })
		if i < 0 {
			parts = append(parts, next)
			continue
		}
		parts[i].apps = append(parts[i].apps, next.apps...)
		parts[i].images = append(parts[i].images, next.images...)
	}
	return parts
}

func (a planPart) isSame(b planPart) bool {
	return a.changed == b.changed && a.head == b.head && a.flyApps == b.flyApps && a.probe == b.probe && slices.Equal(a.lines, b.lines) && slices.Equal(a.notes, b.notes)
}

func targetPart(p release.Plan, t release.TargetPlan, whole bool) planPart {
	next := planPart{apps: []string{t.Target.App}, changed: t.Changed}
	if !t.Changed {
		next.head = ": nothing to change, " + count(len(t.MachineVersions), "machine")
		return next
	}
	if t.Strategy != "" {
		next.head = ", " + string(t.Strategy)
	}
	next.flyApps = strings.Replace(t.FlyApp, t.Target.App, "{app}", 1)
	next.images = []string{strings.Join(imageChanges(p, t.Target), "; ")}
	next.lines = configChanges(p, t.Target, whole)
	if len(t.Addresses) > 0 {
		next.lines = append(next.lines, fmt.Sprintf("allocates IP addresses: %s", strings.Join(t.Addresses, ", ")))
	}
	if t.Probe != nil {
		next.url = t.URL
		next.probe = strings.NewReplacer(t.Probe.URL(t.URL), "{url}"+t.Probe.Path, "/"+t.Target.App+"/", "/{app}/", "[apps."+t.Target.App+"]", "[apps.{app}]").Replace(probeText(t))
	}
	next.notes = slices.Concat(t.Notes, t.Warnings)
	return next
}

func (a planPart) write(b *strings.Builder, style Style) {
	names, each := strings.Join(a.apps, ", "), ""
	if n := len(a.apps); n > 1 {
		each = fmt.Sprintf(" (the same for %d apps)", n)
		if len(a.distinctImages()) > 1 { // writeImages names each app
			names, each = fmt.Sprintf("%d apps", n), " (the same for each)"
		}
	}
	if !a.changed {
		if each != "" {
			each = " each" + each
		}
		b.WriteString(style.wrap("  "+style.paint(dim, "=")+" ", style.paint(dim, names+a.head+each)))
		return
	}
	line := style.paint(bold, names) + a.head + each
	if a.flyApps != "" {
		fly := a.flyApps
		if len(a.apps) == 1 {
			fly = strings.Replace(fly, "{app}", a.apps[0], 1)
		}
		line += style.paint(dim, " ("+fly+")")
	}
	b.WriteString(style.wrap("  "+style.paint(yellow, "~")+" ", line))
	a.writeImages(b, style)
	for _, line := range a.lines {
		text := strings.TrimLeft(line, " ")
		b.WriteString(style.fold("      "+line[:len(line)-len(text)], text))
	}
	if a.probe != "" {
		url, app := a.url, a.apps[0]
		if len(a.apps) > 1 {
			url, app = "(its URL)", "{app}"
		}
		b.WriteString(style.wrap("      ", "probe: "+strings.NewReplacer("{url}", url, "{app}", app).Replace(a.probe)))
	}
	for _, note := range a.notes {
		b.WriteString(style.wrap("      "+style.paint(yellow, "!")+" ", note))
	}
}

func (a planPart) distinctImages() []string {
	return slices.Compact(slices.Sorted(slices.Values(a.images)))
}

// writeImages writes the change of image: once if it is equal for every app, else each
// app with its new digest, as many in a line as fit.
func (a planPart) writeImages(b *strings.Builder, style Style) {
	if distinct := a.distinctImages(); len(distinct) < 2 {
		if text := strings.Join(distinct, ""); text != "" {
			b.WriteString(style.wrap("      ", "image: "+text))
		}
		return
	}
	var cells []string
	wide := 0
	for i, app := range a.apps {
		_, now, found := strings.Cut(a.images[i], " → ")
		if !found || strings.Contains(now, ";") {
			now = cmp.Or(a.images[i], "(unchanged)")
		}
		cells = append(cells, app+" "+strings.ReplaceAll(now, "sha256:", ""))
		wide = max(wide, textWidth(cells[i]))
	}
	b.WriteString("      new images (sha256):\n")
	per := max(1, (style.width()-8)/(wide+2))
	for row := range slices.Chunk(cells, per) {
		line := "       "
		for _, c := range row {
			line += " " + c + strings.Repeat(" ", wide-textWidth(c)+1)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

// machineTotals returns how many machines a plan changes and how many exist.
func machineTotals(p release.Plan) string {
	seen := map[string]bool{}
	total := 0
	for _, s := range p.Steps() {
		if s.Verb != release.Run {
			seen[s.Target.App+"/"+s.Machine] = true
		}
	}
	for _, t := range p.Targets {
		total += len(t.MachineVersions)
	}
	return fmt.Sprintf("%s changed or created; %s exist now", count(len(seen), "machine"), count(total, "machine"))
}

package view

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/microbima/release/release"
)

// BuildReport shows the artifacts of a release: the revision and who requested it, the
// results of its tests, each image with its recipe, materials and scan, and the
// environments that run it.
func BuildReport(s release.Status, now time.Time, style Style) string {
	s = escapeAll(s)
	r := report{Status: s, now: now, style: style}
	r.writeHeader()
	r.writeOrigin()
	r.writeTests()
	for _, b := range s.Builds {
		r.writeImage(b)
	}
	for i, e := range s.Environments {
		if i == 0 {
			r.writeTitle("Environments")
		}
		r.writeEnvironmentImages(e)
	}
	return r.String()
}

// writeOrigin writes the commit and its author.
func (r *report) writeOrigin() {
	rows := [][]cell{{{"commit", dim}, {r.Revision.Commit, noColour}}}
	if r.Revision.Author != "" {
		author := r.Revision.Author
		if !r.Revision.Time.IsZero() {
			author += ", " + r.style.day(r.Revision.Time)
		}
		rows = append(rows, []cell{{"author", dim}, {author, noColour}})
	}
	r.writeTable("  ", rows)
}

// writeTable writes a table of any width: cut digests could not be copied.
func (r *report) writeTable(indent string, rows [][]cell) {
	style := r.style
	style.Width = 0
	for _, line := range style.table(indent, rows) {
		r.writeLine(line)
	}
}

func (r *report) writeTests() {
	var rows [][]cell
	for _, t := range r.Tests {
		word := cell{"passed", green}
		if !t.Passed {
			word = cell{fmt.Sprintf("failed, exit code %d", t.ExitCode), red}
		}
		rows = append(rows, []cell{{t.Name, noColour}, word, {Duration(time.Duration(t.Took)), dim}})
	}
	if len(rows) > 0 {
		r.writeTitle("Tests")
		r.writeTable("  ", rows)
	}
}

func (r *report) writeImage(b release.BuildResult) {
	r.writeTitle("Image of " + b.App)
	image := cell{string(b.Image), noColour}
	if b.Image == "" {
		image = cell{"not built", red}
	}
	rows := [][]cell{{{"image", dim}, image}}
	row := func(name, text string) {
		if text != "" {
			rows = append(rows, []cell{{name, dim}, {text, noColour}})
		}
	}
	row("recipe", b.RecipeText)
	row("duration", buildDuration(b))
	if p := b.Provenance; p != nil {
		row("built by", p.Builder)
		if !p.Finished.IsZero() {
			row("built at", r.style.day(p.Finished))
		}
		for i, m := range p.Materials {
			name := ""
			if i == 0 {
				name = "from"
			}
			rows = append(rows, []cell{{name, dim}, {materialText(m), noColour}})
		}
		row("attested", p.Type)
	}
	for _, s := range r.Scans {
		if s.Name != b.App {
			continue
		}
		word := "passed"
		if !s.Passed {
			word = fmt.Sprintf("exit code %d", s.ExitCode)
		}
		row("scan", fmt.Sprintf("%s, %s", word, Duration(time.Duration(s.Took))))
	}
	for _, n := range b.Notes {
		row("note", n)
	}
	row("output", b.Log)
	r.writeTable("  ", rows)
}

// buildDuration returns how long a build took, and how much it pushed.
func buildDuration(b release.BuildResult) string {
	text := Duration(time.Duration(b.Took))
	switch {
	case b.Reused:
		text += ", built before"
	case b.Image != "":
		text += ", pushed " + humanize.Bytes(uint64(max(0, b.PushedBytes)))
	}
	return text
}

// materialText returns a material of an image: a Docker image as NAME@TAG, else its
// URI, and the digest.
func materialText(m release.Material) string {
	name := strings.TrimPrefix(m.URI, "pkg:docker/")
	if name != m.URI {
		name, _, _ = strings.Cut(name, "?")
		if plain, err := url.PathUnescape(name); err == nil {
			name = escapeLine(plain)
		}
	}
	return strings.TrimSpace(name + " " + m.Digest)
}

// writeEnvironmentImages writes the outcome of an environment and the images there.
func (r *report) writeEnvironmentImages(e release.EnvironmentStatus) {
	text := outcomeText(e)
	if text == "" {
		text = "not reached yet"
	}
	if e.CopiedBytes > 0 {
		text += ", images copied: " + humanize.Bytes(uint64(e.CopiedBytes))
	}
	r.writeLine("  " + r.style.paint(bold, e.Name+":") + " " + text)
	var rows [][]cell
	for _, t := range e.Targets {
		rows = append(rows, []cell{{t.Target.App, noColour}, {string(t.Image), noColour}})
	}
	r.writeTable("    ", rows)
}

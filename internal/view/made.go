package view

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/microbima/release/release"
)

// Made says what a release was made of: the revision and who asked for it, how
// its tests went, the images with what each was built from and where it runs,
// and what scanners said of them.
func Made(s release.Status, now time.Time, style Style) string {
	s = clean(s)
	r := report{Status: s, now: now, style: style}
	r.head()
	r.origin()
	r.tests()
	for _, b := range s.Builds {
		r.image(b)
	}
	for i, e := range s.Environments {
		if i == 0 {
			r.title("Runs")
		}
		r.runs(e)
	}
	return r.String()
}

// origin is the commit, and who wrote it and asked for it.
func (r *report) origin() {
	rows := [][]cell{{{"commit", dim}, {r.Revision.Commit, noHue}}}
	if r.Revision.Author != "" {
		author := r.Revision.Author
		if !r.Revision.Time.IsZero() {
			author += ", " + r.style.day(r.Revision.Time)
		}
		rows = append(rows, []cell{{"author", dim}, {author, noHue}})
	}
	r.rows("  ", rows)
}

// rows writes a table that is not cut: digests are for copying.
func (r *report) rows(indent string, rows [][]cell) {
	style := r.style
	style.Width = 0
	for _, line := range style.table(indent, rows) {
		r.say(line)
	}
}

func (r *report) tests() {
	var rows [][]cell
	for _, t := range r.Tests {
		word := cell{"passed", green}
		if !t.Passed {
			word = cell{fmt.Sprintf("failed, exit code %d", t.ExitCode), red}
		}
		rows = append(rows, []cell{{t.Name, noHue}, word, {Took(time.Duration(t.Took)), dim}})
	}
	if len(rows) > 0 {
		r.title("Tests")
		r.rows("  ", rows)
	}
}

func (r *report) image(b release.BuildResult) {
	r.title("Image of " + b.App)
	image := cell{string(b.Image), noHue}
	if b.Image == "" {
		image = cell{"not built", red}
	}
	rows := [][]cell{{{"image", dim}, image}}
	row := func(name, text string) {
		if text != "" {
			rows = append(rows, []cell{{name, dim}, {text, noHue}})
		}
	}
	row("made of", b.From)
	row("took", took(b))
	if p := b.Provenance; p != nil {
		row("built by", p.Builder)
		if !p.Finished.IsZero() {
			row("built", r.style.day(p.Finished))
		}
		for i, m := range p.Materials {
			name := ""
			if i == 0 {
				name = "from"
			}
			rows = append(rows, []cell{{name, dim}, {material(m), noHue}})
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
		row("scan", fmt.Sprintf("%s, %s", word, Took(time.Duration(s.Took))))
	}
	for _, n := range b.Notes {
		row("note", n)
	}
	row("output", b.Log)
	r.rows("  ", rows)
}

// took is how long a build took, and what it sent.
func took(b release.BuildResult) string {
	words := Took(time.Duration(b.Took))
	switch {
	case b.Found:
		words += ", built before"
	case b.Image != "":
		words += ", pushed " + humanize.Bytes(uint64(max(0, b.Bytes)))
	}
	return words
}

// material is what an image was built from, as people write it.
func material(m release.Material) string {
	name := strings.TrimPrefix(m.URI, "pkg:docker/")
	if name != m.URI {
		name, _, _ = strings.Cut(name, "?")
		if plain, err := url.PathUnescape(name); err == nil {
			name = cleanLine(plain)
		}
	}
	return strings.TrimSpace(name + " " + m.Digest)
}

// runs is what of the release is in an environment.
func (r *report) runs(e release.EnvironmentStatus) {
	word := outcome(e)
	if word == "" {
		word = "not yet"
	}
	if e.Copied > 0 {
		word += ", images copied: " + humanize.Bytes(uint64(e.Copied))
	}
	r.say("  " + r.style.paint(bold, e.Name) + " " + word)
	var rows [][]cell
	for _, t := range e.Targets {
		rows = append(rows, []cell{{t.Target.App, noHue}, {string(t.Image), noHue}})
	}
	r.rows("    ", rows)
}

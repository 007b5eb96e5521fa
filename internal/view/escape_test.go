package view_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/gomarkdown/markdown"
	"github.com/gomarkdown/markdown/html"
	"github.com/gomarkdown/markdown/parser"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

// hostile is text of a commit, a check or a user that makes a terminal or a reader see
// something else.
const hostile = "a\x1b[8m\x1b[2J\x1b]0;t\x07\r\u009b31m\u202eevil\u2066\u200b\ufeff\u00ad\U000e0041\xff" +
	"\n  = api: nothing to change\nb"

// fillHostile sets every string of v to hostile, and every other field to a value that
// is not zero.
func fillHostile(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(hostile)
	case reflect.Int, reflect.Int64:
		v.SetInt(3)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Pointer:
		if depth < 8 {
			v.Set(reflect.New(v.Type().Elem()))
			fillHostile(v.Elem(), depth+1)
		}
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			text, _ := json.Marshal(hostile)
			v.SetBytes(fmt.Appendf(nil, `{"image":%s,%s:%s,"env":{"A":%s,%s:"1"},"files":[{"raw_value":"G1s4bQ=="}]}`, text, text, text, text, text))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fillHostile(v.Index(i), depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillHostile(key, depth+1)
		fillHostile(value, depth+1)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(at(10)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillHostile(v.Field(i), depth+1)
			}
		}
	}
}

func filled[T any]() (v T) {
	fillHostile(reflect.ValueOf(&v).Elem(), 0)
	return v
}

// hostileStatuses returns statuses in which every string is hostile: held, rolled back
// and building.
func hostileStatuses() []release.Status {
	s := filled[release.Status]()
	s.ID, s.Held.Choices, s.Outcome = "release/x/"+hostile, []release.Choice{release.ChoiceRetry}, ""
	s.Gate.Plan, s.Plan.Hash = hostile, hostile
	s.Builds[0].Provenance.Materials[0].URI = "pkg:docker/%1b%5b8mevil?x"
	for i := range s.Plan.Waves {
		for j := range s.Plan.Waves[i].Lanes {
			for k, verb := range []release.Verb{release.Create, release.Update} {
				s.Plan.Waves[i].Lanes[j].Steps[k].Verb = verb
			}
		}
	}
	over := s
	over.Outcome, over.Phase = release.RolledBack, release.Done
	building := s
	building.Phase = release.Building
	return []release.Status{s, over, building}
}

// renderAll returns the output of every view with hostile text in all arguments.
func renderAll(t *testing.T) map[string]string {
	all := map[string]string{}
	for i, s := range hostileStatuses() {
		for name, style := range map[string]view.Style{"plain": {}, "screen": {Width: 80, Height: 24, Colour: true}, "whole": {Whole: true}} {
			key := fmt.Sprint(i, " ", name, " ")
			all[key+"live"] = view.Live(s, at(100), style)
			all[key+"report"] = view.Report(s, "1 history event", at(100), style)
			all[key+"build report"] = view.BuildReport(s, at(100), style)
			all[key+"plan"] = view.Plan(*s.Plan, style)
			all[key+"review"] = view.Review(s, at(100), style)
			targets := []view.TargetState{filled[view.TargetState](), filled[view.TargetState]()}
			targets[1].Unknown, targets[1].Drift = "", view.Drift(targets[1].State)
			all[key+"targets"] = view.TargetStates(targets, at(100), style)
			all[key+"list"] = view.List([]release.Entry{filled[release.Entry]()}, at(100), style)
		}
		all[fmt.Sprint(i, " gate")] = view.Gate(s, "http://x/"+hostile)
		all[fmt.Sprint(i, " waits")] = strings.Join(view.WaitLines(release.Status{}, s), "\n")
		all[fmt.Sprint(i, " details")] = view.Details(s)
		all[fmt.Sprint(i, " summary")] = view.Summary(hostile)
	}
	for _, kind := range release.EventKinds() {
		e := filled[release.Event]()
		e.Kind, e.MachineState.Progress = kind, release.ProgressDone
		all[fmt.Sprint(kind, " lines")] = logText(new(view.Log), hostile, e)
	}
	if len(all) < 30 {
		t.Fatalf("only %d views", len(all))
	}
	return all
}

var ourColours = regexp.MustCompile("\x1b\\[(0|1|2|31|32|33)m")

// TestViews_HostileText: in no view does foreign text act on a terminal, is invisible,
// or starts a line.
func TestViews_HostileText(t *testing.T) {
	for name, text := range renderAll(t) {
		if strings.Contains(name, "screen") {
			text = ourColours.ReplaceAllString(text, "")
		}
		for _, r := range text {
			if r != '\n' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r == '\ufffd') {
				t.Errorf("%s: %q is not escaped", name, r)
				break
			}
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "  = api: nothing to change") {
				t.Errorf("%s: foreign text made the line %q", name, line)
			}
		}
	}
}

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"plain → ünïcödé 漢字 ✓\n\tx":  "plain → ünïcödé 漢字 ✓\n\tx",
		"a\x1b[8mb":                  `a\x1b[8mb`,
		"10%\r20%\r\nend":            "10%\\r20%\nend",
		"\u009b2J\x7f\x00":           `\x9b2J\x7f\x00`,
		"\u202etxt\u2069":            `\u202etxt\u2069`,
		"a\u200bb\ufeff\u00ad\u3164": `a\u200bb\ufeff\xad\u3164`,
		"\U000e0041\ufe0f":           `\U000e0041\ufe0f`,
		"\xff\xfe":                   `\xff\xfe`,
		"\ufffd":                     "\ufffd",
	} {
		if got := view.Escape(text); got != want {
			t.Errorf("%q is written %q, want %q", text, got, want)
		}
	}
	doc := []byte("{\"a\":\"\u009b\u202e\U000e0041\"}\n")
	var got struct{ A string }
	if out := view.EscapeJSON(doc); strings.ContainsRune(string(out), '\u009b') || json.Unmarshal(out, &got) != nil || got.A != "\u009b\u202e\U000e0041" {
		t.Errorf("JSON: %q, which decodes to %q", view.EscapeJSON(doc), got.A)
	}
}

// renderHTML renders Markdown as the server of the Temporal UI does.
func renderHTML(text string) string {
	p := parser.NewWithExtensions(parser.CommonExtensions | parser.AutoHeadingIDs)
	return string(markdown.Render(p.Parse([]byte(text)), html.NewRenderer(html.RendererOptions{Flags: html.CommonFlags | html.HrefTargetBlank})))
}

// TestMarkdown_TextStaysText: no text of a commit, a user or Fly becomes a link, an
// image, a heading or HTML, or ends the block that it is in.
func TestMarkdown_TextStaysText(t *testing.T) {
	for _, text := range []string{
		"[click](https://evil.example)", "![x](https://evil.example/x.png)", "https://evil.example/a?b=c", "<https://evil.example>", "www.evil.example", "me@evil.example",
		"mailto:me@evil.example", "javascript:alert(1)", "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "# heading", "## x {#id}", "=====", "---", "- list", "1. list", "> quote",
		"```", "`code", "a ` b `` c ``` d", "~~~", "| a | b |", "*em* __strong__ ~~gone~~", "$x^2$", "$$x$$", `\(x\)`, "&lt;b&gt;", "[a]: https://evil.example", ": definition", "`a`https://evil.example|\\",
		"fix: a\n# heading\n\n[x](https://evil.example)", `C:\dir\`,
	} {
		for _, frame := range []string{"- %s\n", "**Why:** %s\n", "| a |\n|---|\n| %s |\n", "%s"} {
			got := renderHTML(fmt.Sprintf(frame, view.Markdown(text)))
			bare := renderHTML(fmt.Sprintf(frame, "word"))
			for _, tag := range []string{"<a", "<img", "<h1", "<h2", "<script", "<em", "<del", "<hr", "<pre", "<ul", "<ol", "<blockquote", "<dl", "<table", "<td", "<strong", "math", "<p"} {
				if strings.Count(got, tag) != strings.Count(bare, tag) {
					t.Errorf("%q in %q becomes %s", text, frame, got)
				}
			}
		}
	}
	for _, s := range hostileStatuses() {
		s.Plan = nil
		s.Revision.Subject, s.By, s.Notes = "[a](https://evil.example) <b> ```", "# [me](x)", []string{"```\n# x"}
		s.Cause.Message, s.Held.Why, s.Queue = "https://evil.example", "![x](y)", "<img src=x>"
		s.Environments[0].Commands = []release.CommandResult{{Log: []string{"```", "# heading", "[x](https://evil.example)", "````"}}}
		got := renderHTML(view.Details(s))
		for _, bad := range []string{"<img", `<a href="https://evil`, "<h1", "<b>"} {
			if strings.Contains(got, bad) {
				t.Errorf("the details have %s:\n%s", bad, got)
			}
		}
	}
}

func TestSummary_FitsTemporal(t *testing.T) {
	if got := view.Summary(strings.Repeat("*** ", 500)); len(got) > 400 {
		t.Errorf("%d bytes, Temporal takes 400", len(got))
	}
	if got := view.Summary(strings.Repeat("x", 1000)); len(got) > 400 || got == "" {
		t.Errorf("a long word: %q", got)
	}
}

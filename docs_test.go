package release_root_test

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

// report is written by internal/simulation/proof, and tells of the tests as they were then.
const report = "docs/verification.md"

// pages returns the Markdown pages of the documentation, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found[filepath.ToSlash(name)] = string(text)
		}
	}
	if len(found) < 20 {
		t.Fatalf("found only %d pages", len(found))
	}
	return found
}

// Every kind of event is in docs/events.md: the names are schema.
func TestPages_EventKinds(t *testing.T) {
	page := pages(t)["docs/events.md"]
	for _, kind := range release.EventKinds() {
		if !strings.Contains(page, "`"+string(kind)+"`") {
			t.Errorf("docs/events.md does not have the kind %q", kind)
		}
	}
}

var (
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	testName  = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	filePath  = regexp.MustCompile("`((?:[\\w.-]+/)+[\\w.-]+\\.(?:go|toml|yml|md|yaml))`")
	member    = regexp.MustCompile("`(?:[a-z]+\\.)?(?:[A-Z]\\w*\\.)*([A-Z]\\w*)`")
	qualified = regexp.MustCompile("`[A-Za-z]\\w*\\.[A-Z]")
	fence     = regexp.MustCompile("(?s)```.*?```")
)

// anchors returns the anchors that GitHub gives the headings of a page.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		slug := notInSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(slug, " ", "-")] = true
	}
	return found
}

// A reader who follows a link finds the page and the section.
func TestDocs_Links(t *testing.T) {
	all := pages(t)
	for name, text := range all {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := name
			if target != "" {
				file = path.Join(path.Dir(name), target)
			}
			if _, err := os.Stat(filepath.FromSlash(file)); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
				continue
			}
			if anchor != "" && !anchors(all[file])[anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", name, m[1], file)
			}
		}
	}
}

// A reader who greps for a test or a name of Go, or opens a file, that a page names finds
// it.
func TestDocs_NamesExist(t *testing.T) {
	functions, declared := testFunctions(t), declaredNames(t)
	for name, text := range pages(t) {
		if name == report {
			continue
		}
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			if !functions[m[1]] {
				t.Errorf("%s names %s, and there is no such test", name, m[1])
			}
		}
		for _, m := range member.FindAllStringSubmatch(text, -1) {
			if isOurs := !strings.HasPrefix(m[0], "`workflow."); isOurs && qualified.MatchString(m[0]) && !declared[m[1]] {
				t.Errorf("%s names %s, and nothing of that name is declared", name, m[0])
			}
		}
		for _, m := range filePath.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.FromSlash(m[1])); err != nil {
				t.Errorf("%s names %s, and there is no such file", name, m[1])
			}
		}
	}
}

// Each command of the report runs tests that exist. A command without a test passes.
func TestDocs_ReportCommands(t *testing.T) {
	functions := testFunctions(t)
	source, err := os.ReadFile("internal/simulation/proof/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`-(?:run|bench) '?(\w+)`).FindAllStringSubmatch(string(source), -1) {
		found := false
		for name := range functions {
			found = found || strings.Contains(name, m[1])
		}
		if !found {
			t.Errorf("the report runs %s, and there is no such test", m[1])
		}
	}
}

// testFunctions returns the names of all tests in the repository.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	list, err := exec.Command("git", "grep", "-hoE", `^func (Test|Fuzz|Benchmark)[A-Za-z0-9_]+`, "--", "*_test.go").Output()
	if err != nil {
		t.Skipf("needs git and a clone: %v", err)
	}
	found := map[string]bool{}
	for line := range bytes.Lines(list) {
		found[strings.TrimPrefix(strings.TrimSpace(string(line)), "func ")] = true
	}
	return found
}

// declaredNames returns the exported names that are declared in the repository: types,
// functions, methods, fields, constants and variables.
func declaredNames(t *testing.T) map[string]bool {
	t.Helper()
	list, err := exec.Command("git", "grep", "-hoE", `^(func (\([^)]*\) )?|type |var |const |\s+)([A-Z]\w*)((, [A-Z]\w*)*)`, "--", "*.go").Output()
	if err != nil {
		t.Skipf("needs git and a clone: %v", err)
	}
	found := map[string]bool{}
	for _, name := range regexp.MustCompile(`[A-Z]\w*`).FindAllString(string(list), -1) {
		found[name] = true
	}
	return found
}

// The README keeps the two commands that everything else relies on, and two screens.
func TestREADME_CommandsAndLength(t *testing.T) {
	text := pages(t)["README.md"]
	for _, command := range []string{"    go run ./cmd/release demo ", "    go test ./... "} {
		if !strings.Contains(text, command) {
			t.Errorf("README.md lacks the command %q", strings.TrimSpace(command))
		}
	}
	if lines := strings.Count(text, "\n"); lines > 100 {
		t.Errorf("README.md has %d lines; the rest belongs in docs/", lines)
	}
}

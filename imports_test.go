// Package release_root_test holds the arrows of ARCHITECTURE.md: who may import
// whom.
package release_root_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/microbima/release"

// What several lines of the table name.
const (
	anyModule = "any module" // but no package of ours
	anything  = "anything"   // ours and others'
	sdk       = "go.temporal.io/sdk"
	sdkTypes  = "go.temporal.io/api" // the types in the SDK's signatures
	flyGo     = "github.com/superfly/fly-go"
	goToml    = "github.com/pelletier/go-toml/v2"
	nearest   = "github.com/agext/levenshtein"
	ggcr      = "github.com/google/go-containerregistry"
	flock     = "github.com/gofrs/flock"
	humanize  = "github.com/dustin/go-humanize"
	globs     = "github.com/bmatcuk/doublestar/v4"
	parallel  = "golang.org/x/sync" // what the standard library has not
	limiter   = "golang.org/x/time" // yet; knows of nothing
	server    = "go.temporal.io/server"
	webUI     = "github.com/temporalio/ui-server/v2"
)

// arrows point at what a package imports, apart from the standard library. A
// name stands for a package of ours, or for a module of others with all that is
// in it. "x/..." stands for x and all below it that has no line of its own.
var arrows = map[string][]string{
	".":                         {}, // tests only
	"release":                   {},
	"workflows":                 {"release", "activities", "internal/view", sdk, sdkTypes},
	"activities":                {"release", "fly", "fly/driver", "config", "image", "git", "internal/payload", "internal/procgroup", sdk, sdkTypes, parallel},
	"worker":                    {"release", "workflows", "activities", "internal/payload", sdk, sdkTypes},
	"internal/simulation":       {"release", "workflows", "activities", "config", "fly", "fly/driver", "fly/flysim", "image", "internal/view", "internal/sleep", "internal/virtualtime", sdk, sdkTypes, "google.golang.org/protobuf"}, // all of it, and only for tests
	"internal/simulation/proof": {},                                                                                                                                                                                                   // runs commands
	"internal/virtualtime":      {"internal/sleep", sdk},
	"internal/e2e":              {}, // tests only
	"internal/procgroup":        {},
	"internal/testrepo":         {}, // only for tests
	"internal/rawjson":          {},
	"internal/sleep":            {},
	"config":                    {"release", "fly/flytoml", "fly/flytoml/tomldoc", "fly/machineconfig", goToml, nearest, globs},
	"git":                       {"release", "internal/procgroup", flock, nearest, parallel},
	"image":                     {"release", "internal/procgroup", ggcr, "github.com/google/ko", parallel, "github.com/bmatcuk/doublestar/v4"},
	"image/buildkit":            {"release", "image", anyModule},
	"fly":                       {"internal/rawjson", "internal/sleep", flyGo, limiter, parallel, "github.com/oklog/ulid/v2"},
	"fly/driver":                {"release", "fly", "fly/machineconfig", "internal/sleep", parallel},
	"fly/machineconfig":         {"release", "internal/rawjson"},
	"fly/flytoml":               {"internal/rawjson", "fly/flytoml/tomldoc", flyGo, goToml},
	"fly/flytoml/tomldoc":       {goToml, nearest},
	"fly/flysim":                {"fly", "internal/rawjson", limiter, parallel, "github.com/vektah/gqlparser/v2"},
	"internal/view":             {"release", humanize, "golang.org/x/text"}, // how wide a character is
	"internal/cost":             {"release", sdkTypes},
	"internal/devserver":        {anyModule},
	"internal/overlay":          {},
	"internal/version":          {},
	"internal/payload":          {sdk, sdkTypes, "google.golang.org/protobuf"},
	"client":                    {"release", "activities", "internal/sleep", "internal/view", "internal/cost", "internal/payload", sdk, sdkTypes},
	"internal/cli":              {"release", "client", "worker", "activities", "config", "fly", "fly/driver", "image", "image/buildkit", "git", "internal/rawjson", "internal/view", "internal/version", anyModule},
	"internal/localstack":       {"release", "client", "worker", "fly", "fly/flysim", "fly/flysim/localrunner", "git", "image/buildkit", "internal/cli", "internal/devserver", "internal/view", "github.com/spf13/cobra"},
	"cmd/release":               {"image", "internal/cli", "internal/localstack", "golang.org/x/term"},
	"apps/...":                  {"apps/..."},
	"infra/...":                 {}, // tests only

	"fly/flysim/localrunner": {"fly/flysim", ggcr, flock, parallel, "golang.org/x/sys", "github.com/prometheus/procfs"},
}

// onlyFor are the only importers of what is heavy or make-believe: their lines
// above may not let anybody else near it.
var onlyFor = map[string][]string{
	server:                {"internal/devserver"},
	webUI:                 {"internal/devserver"},
	"internal/devserver":  {"internal/localstack"},
	"internal/localstack": {"cmd/release"},
	"internal/cli":        {"cmd/release", "internal/localstack"},
	"image/buildkit":      {"internal/cli", "internal/localstack"},
	"fly/flysim":          {"internal/localstack", "fly/flysim/localrunner", "internal/simulation"},

	"fly/flysim/localrunner": {"internal/localstack"},
}

// A listed package is what go list says of one: its imports are those of the
// program, not of its tests.
type listed struct {
	ImportPath string
	Imports    []string
}

func TestImports(t *testing.T) {
	packages := list(t)
	if len(packages) < 3 {
		t.Fatalf("go list names only %d packages", len(packages))
	}
	for _, wrong := range violations(packages) {
		t.Error(wrong)
	}
}

// A rule that nothing can break is none.
func TestImportRulesBite(t *testing.T) {
	for name, test := range map[string]struct{ from, to string }{
		"the vocabulary learns of Fly":          {"release", "fly"},
		"the vocabulary learns of Temporal":     {"release", sdk + "/workflow"},
		"a workflow calls Fly itself":           {"workflows", "fly"},
		"a workflow changes machines itself":    {"workflows", "fly/driver"},
		"the driver learns of Temporal":         {"fly/driver", sdk + "/activity"},
		"the driver learns of activities":       {"fly/driver", "activities"},
		"a workflow calls Fly's library":        {"workflows", flyGo + "/flaps"},
		"a name that only begins like another":  {"workflows", "go.temporal.io/sdkish"},
		"the server reaches activities":         {"activities", server + "/temporal"},
		"a second importer of the server":       {"internal/localstack", server + "/temporal"},
		"a command starts its own Temporal":     {"internal/cli", "internal/devserver"},
		"a command simulates Fly":               {"internal/cli", "fly/flysim"},
		"the client learns of commands":         {"client", "internal/cli"},
		"the client learns of flags":            {"client", "github.com/spf13/cobra"},
		"a second importer of the Web UI":       {"image/buildkit", webUI + "/server"},
		"the simulation reaches production":     {"activities", "fly/flysim"},
		"the local runner reaches fly":          {"fly", "fly/flysim/localrunner"},
		"drawing asks Fly":                      {"internal/view", "fly"},
		"a worker that brings its own Temporal": {"worker", "internal/devserver"},
		"the dev server learns of releases":     {"internal/devserver", "release"},
		"an app that uses the product":          {"apps/public-api", "release"},
		"a package without a line":              {"helpers", "std/fmt"},
		"what has no line is imported":          {"workflows", "helpers"},
	} {
		t.Run(name, func(t *testing.T) {
			if len(violations([]listed{{ImportPath: full(test.from), Imports: []string{full(test.to)}}})) == 0 {
				t.Errorf("%s may import %s", test.from, test.to)
			}
		})
	}
}

func violations(packages []listed) (wrong []string) {
	for _, p := range packages {
		from := short(p.ImportPath)
		line, ok := lineOf(from)
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s has no line in imports_test.go: say what it may import", from))
			continue
		}
		for _, to := range p.Imports {
			to = short(to)
			if !allowed(from, to, line) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: it may import %s", from, to, orNothing(line)))
			}
		}
	}
	return wrong
}

func allowed(from, to string, line []string) bool {
	for what, importers := range onlyFor {
		if within(to, what) && !slices.Contains(importers, from) {
			return false
		}
	}
	if isStandard(to) {
		return true
	}
	return slices.ContainsFunc(line, func(may string) bool {
		return may == anything || may == anyModule && !isOurs(to) || within(to, may)
	})
}

// within says whether a line's name covers what is imported: a module covers
// its packages, a package of ours only itself unless it ends in /...
func within(to, name string) bool {
	if root, ok := strings.CutSuffix(name, "/..."); ok {
		return to == root || strings.HasPrefix(to, root+"/")
	}
	return to == name || !isOurs(to) && strings.HasPrefix(to, name+"/")
}

func lineOf(name string) ([]string, bool) {
	if line, ok := arrows[name]; ok {
		return line, true
	}
	for above := name; above != "."; above = path.Dir(above) {
		if line, ok := arrows[above+"/..."]; ok {
			return line, true
		}
	}
	return nil, false
}

// short is the name in the table: packages of ours lose the module's path, and
// those of the standard library, whose names look the same, get a mark.
func short(importPath string) string {
	if importPath == module {
		return "."
	}
	if ours, ok := strings.CutPrefix(importPath, module+"/"); ok {
		return ours
	}
	if first, _, _ := strings.Cut(importPath, "/"); !strings.Contains(first, ".") {
		return "std/" + importPath
	}
	return importPath
}

// full is the import path of a name in the table.
func full(name string) string {
	if isOurs(name) {
		return module + "/" + name
	}
	return strings.TrimPrefix(name, "std/")
}

func isStandard(name string) bool { return strings.HasPrefix(name, "std/") }

// isOurs goes by the dot that the first element of a module has.
func isOurs(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return name == "." || !isStandard(name) && !strings.Contains(first, ".")
}

func orNothing(line []string) string {
	if len(line) == 0 {
		return "the standard library only"
	}
	return strings.Join(line, ", ")
}

func list(t *testing.T) (packages []listed) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		var said *exec.ExitError
		if errors.As(err, &said) {
			t.Fatalf("go list: %v\n%s", err, said.Stderr)
		}
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

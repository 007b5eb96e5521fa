package flytoml

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the results to testdata/invalid/*/want.txt")

// harmless are the files of testdata/invalid that are accepted with a warning.
var harmless = map[string]bool{
	"max-unavailable-nonrolling": true, // a setting without effect
	"legacy":                     true, // written by old versions of flyctl
	"oddities":                   true,
	"odd-names":                  true,
	"warned":                     true,
}

// TestInvalid parses files that flyctl refuses, crashes on or accepts silently,
// and compares every problem found in them.
func TestInvalid(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*/fly.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			doc, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			config, warnings, err := Parse("fly.toml", doc)
			got := ""
			if err != nil {
				got = err.Error() + "\n"
			}
			for _, w := range warnings {
				got += "warning: " + w.Error() + "\n"
			}
			if err == nil {
				got += missingFiles(config, dir)
			}
			wantFile := filepath.Join(dir, "want.txt")
			if *update {
				if err := os.WriteFile(wantFile, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if onlyWarned := !strings.Contains("\n"+got, "\nfly.toml"); onlyWarned != harmless[name] {
				t.Errorf("accepted is %t, want %t", onlyWarned, harmless[name])
			}
		})
	}
}

// missingFiles reports local files that don't exist beside fly.toml, as a caller
// would.
func missingFiles(c *Config, dir string) (problems string) {
	for _, f := range c.LocalFiles() {
		if _, err := os.Stat(filepath.Join(dir, f.Name)); err != nil {
			problems += c.Problem(f.Key, "there is no %s", f.Name).Error() + "\n"
		}
	}
	return problems
}

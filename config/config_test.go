package config

import (
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/microbima/release/release"
)

var update = flag.Bool("update", false, "update the expected files in testdata/*.txtar")

// TestLoad loads each archive of testdata and compares the result with its last files:
// project.json or mistakes, and warnings.
func TestLoad(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in, want := splitArchive(archive)
			got := loadFiles(in)
			if *update {
				archive.Files = append(archive.Files[:len(archive.Files)-len(want)], got...)
				if err := os.WriteFile(file, txtar.Format(archive), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(textByName(want), textByName(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// splitArchive returns the input files and the expected files of an archive.
func splitArchive(archive *txtar.Archive) (in fstest.MapFS, want []txtar.File) {
	in = fstest.MapFS{}
	for _, f := range archive.Files {
		switch f.Name {
		case "project.json", "mistakes", "warnings":
			want = append(want, f)
		default:
			in[f.Name] = &fstest.MapFile{Data: f.Data, Mode: 0o644}
		}
	}
	return in, want
}

// loadFiles returns the result of Load in the form of the expected files.
func loadFiles(fsys fs.FS) (out []txtar.File) {
	project, warnings, err := Load(fsys)
	if err != nil {
		out = append(out, txtar.File{Name: "mistakes", Data: []byte(err.Error() + "\n")})
	} else {
		for i := range project.Environments { // the archive has the files themselves
			for j := range project.Environments[i].Targets {
				project.Environments[i].Targets[j].FlyToml = ""
			}
		}
		doc, err := json.MarshalIndent(project, "", "  ")
		if err != nil {
			panic(err)
		}
		out = append(out, txtar.File{Name: "project.json", Data: append(doc, '\n')})
	}
	if len(warnings) > 0 {
		out = append(out, txtar.File{Name: "warnings", Data: []byte(warnings.Error() + "\n")})
	}
	return out
}

func textByName(files []txtar.File) map[string]string {
	m := map[string]string{}
	for _, f := range files {
		m[f.Name] = string(f.Data)
	}
	return m
}

// TestLoad_OwnRepository loads the repository that this package is in.
func TestLoad_OwnRepository(t *testing.T) {
	project, warnings, err := Load(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	if len(project.Apps) != 3 || len(project.Environments) != 2 {
		t.Errorf("have %d apps and %d environments, want 3 and 2", len(project.Apps), len(project.Environments))
	}
}

// FuzzLoad looks for a release.toml or fly.toml that makes Load panic, fail without a
// file and a message, or return a project without a valid plan.
func FuzzLoad(f *testing.F) {
	cases, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range cases {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		in, _ := splitArchive(archive)
		projectToml, flyToml := []byte{}, []byte{}
		for name, file := range in {
			if name == File {
				projectToml = file.Data
			} else if strings.HasSuffix(name, "fly.toml") {
				flyToml = file.Data
			}
		}
		f.Add(projectToml, flyToml)
	}
	f.Fuzz(func(t *testing.T, releaseToml, flyToml []byte) {
		fsys := fstest.MapFS{
			File:                             {Data: releaseToml},
			"infra/fly/api/staging/fly.toml": {Data: flyToml},
			"infra/fly/api/Dockerfile":       {Data: []byte("FROM scratch\n")},
		}
		project, _, err := Load(fsys)
		if err != nil {
			checkErrors(t, err)
			return
		}
		if _, err := json.Marshal(project); err != nil {
			t.Error(err)
		}
		if _, err := project.Path(""); err != nil {
			t.Error(err)
		}
		for _, env := range project.Environments {
			for _, target := range env.Targets {
				state := release.State{Target: target.Target, FlyApp: target.FlyApp}
				spec, err := Spec(project, target, v1, state)
				if err != nil {
					continue // local files that do not exist here
				}
				if _, err := release.NewPlan(env.Name, "", []release.Spec{spec}, []release.State{state}); err != nil {
					t.Errorf("%s: %v", target.Target, err)
				}
			}
		}
	})
}

// checkErrors fails unless each mistake of err has a file and a message.
func checkErrors(t *testing.T, err error) {
	t.Helper()
	problems, ok := err.(Errors)
	if !ok || len(problems) == 0 {
		t.Fatalf("the error is not a list of mistakes: %v", err)
	}
	for _, e := range problems {
		if e.File == "" || e.Msg == "" {
			t.Errorf("a mistake without file or message: %+v", e)
		}
	}
}

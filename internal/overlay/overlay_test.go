package overlay

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The build has the changes, and the file on disk has not.
func TestWrite_BuildWithChanges(t *testing.T) {
	root := writeModule(t)
	file, err := Write(t.TempDir(), root,
		Change{"words/words.go", `"hello"`, `"good" + evening`},
		Change{"words/words.go", "package words", "package words\n\nconst evening = \" evening\""},
		Change{"main.go", "println(w.", "println(w.Said + \", \" + w."},
	)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "run", "-overlay", file, ".")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "good evening, good evening" {
		t.Errorf("the changed program printed %q, %v", got, err)
	}
	if doc, err := os.ReadFile(filepath.Join(root, "words", "words.go")); err != nil || !strings.Contains(string(doc), `"hello"`) {
		t.Errorf("the file on disk was changed: %s, %v", doc, err)
	}
}

// A change that does not fit the source is an error.
func TestWrite_ChangeDoesNotFit(t *testing.T) {
	for name, test := range map[string]struct {
		change Change
		want   string
	}{
		"the text is missing":   {Change{"main.go", "print(good)", "x"}, "main.go has the text to replace 0 times"},
		"the text occurs twice": {Change{"main.go", "main", "x"}, "main.go has the text to replace 2 times"},
		"nothing to replace":    {Change{"main.go", "", "x"}, "main.go has the text to replace"},
		"the file is missing":   {Change{"other.go", "a", "b"}, "other.go"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Write(t.TempDir(), writeModule(t), test.change); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func writeModule(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":         "module example.com/m\n\ngo 1.24\n",
		"main.go":        "package main\n\nimport w \"example.com/m/words\"\n\nfunc main() { println(w.Said) }\n",
		"words/words.go": "package words\n\nconst Said = \"hello\"\n",
	} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

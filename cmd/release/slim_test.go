package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// slimModules is how many modules a slim build may link, this one included.
const slimModules = 170

func TestSlim_LeavesOutTheLocalStack(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-tags", "slim", "-f", "{{.ImportPath}} {{with .Module}}{{.Path}}{{end}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	modules := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		path, module, _ := strings.Cut(strings.TrimSpace(line), " ")
		if module != "" {
			modules[module] = true
		}
		for _, left := range []string{
			"go.temporal.io/server", "github.com/temporalio/ui-server", "github.com/microbima/release/fly/flysim",
			"github.com/microbima/release/internal/devserver", "github.com/microbima/release/internal/localstack",
		} {
			if path == left || strings.HasPrefix(path, left+"/") {
				t.Errorf("a slim build links %s", path)
			}
		}
	}
	t.Logf("%d modules", len(modules))
	if len(modules) > slimModules {
		t.Errorf("a slim build links %d modules, want at most %d", len(modules), slimModules)
	}
}

func TestSlim_SaysWhichBuildHasDevAndDemo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "release")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := exec.Command("go", "build", "-tags", "slim", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"dev"}, {"dev", "--temporal-port", "0"}, {"demo", "--break", "check"}} {
		out, err := exec.Command(program, args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("release %v: %v, want exit code 1", args, err)
		}
		want := "release: release " + args[0] + " is not in this slim build; the full build has it: go install ./cmd/release, without -tags slim\n"
		if string(out) != want {
			t.Errorf("release %v says %q, want %q", args, out, want)
		}
	}
	out, err := exec.Command(program, "help").Output()
	if err != nil || !strings.Contains(string(out), "not in this build") || !strings.Contains(string(out), "release start") {
		t.Errorf("release help: %v\n%s", err, out)
	}
}

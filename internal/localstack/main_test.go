package localstack

import (
	"os"
	"strings"
	"testing"

	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/cli"
)

func TestMain(m *testing.M) {
	if image.IsCompilerProcess() {
		os.Exit(image.RunCompiler(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

func TestCommands_Manual(t *testing.T) {
	for _, newCommand := range []cli.NewCommand{NewDev, NewDemo} {
		c := newCommand(&cli.World{})
		if c.Short == "" || len(c.Long) < 100 || !strings.Contains(c.Example, "release "+c.Name()) {
			t.Errorf("release %s lacks a manual", c.Name())
		}
	}
}

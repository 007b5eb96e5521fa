package localstack

import (
	"os"
	"testing"

	"github.com/microbima/release/image"
)

func TestMain(m *testing.M) {
	if image.Apart() {
		os.Exit(image.Compile(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

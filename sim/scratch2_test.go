package sim_test

import (
	"fmt"
	"testing"

	"github.com/microbima/release/internal/overlay"
)

func TestTexts(t *testing.T) {
	for _, m := range mutants {
		if _, err := overlay.Write(t.TempDir(), "..", m.changes...); err != nil {
			fmt.Println(m.name, "::", err)
		}
	}
}

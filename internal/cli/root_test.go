package cli

import (
	"strings"
	"testing"
)

func TestRoot_Manuals(t *testing.T) {
	root := newRoot(&World{}, LocalCommands{})
	for _, c := range root.Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Short == "" || len(c.Long) < 100 || !strings.Contains(c.Example, "release "+c.Name()) {
			t.Errorf("release %s lacks a manual", c.Name())
		}
		if c.GroupID == "" {
			t.Errorf("release %s is in no group", c.Name())
		}
	}
}

package flytoml

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// seeds returns the fly.toml of all cases.
func seeds(f *testing.F) (docs [][]byte) {
	for _, pattern := range []string{"testdata/invalid/*/fly.toml", "testdata/golden/*/*/fly.toml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds: %v", err)
		}
		for _, file := range files {
			doc, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			docs = append(docs, doc)
		}
	}
	return docs
}

// FuzzParse finds files that panic, are refused without a message, or give a
// machine that the next rollout would change.
func FuzzParse(f *testing.F) {
	for _, doc := range seeds(f) {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, _, err := Parse("fly.toml", doc)
		if err != nil {
			if err.Error() == "" {
				t.Error("refused without a message")
			}
			return
		}
		sent, err := c.Definition()
		if err != nil || !json.Valid(sent) {
			t.Fatalf("sent is %s, %v", sent, err)
		}
		c.Addresses()
		for _, g := range c.Groups() {
			config, err := c.createConfig(g.Name, firstImage)
			if err != nil {
				continue // a missing local file, or an invalid machine_config
			}
			machines, err := c.Group(g.Name, firstImage)
			if err != nil || (machines.Volume == nil) != (g.Mount == nil) {
				t.Fatalf("group %+v, %v", machines, err)
			}
			if _, err := c.machineCheckConfigs(g.Name, config, "fdaa::2"); err != nil {
				t.Error(err)
			}
			again, err := c.updateConfig(config, g.Name, firstImage)
			if err != nil {
				t.Fatal(err)
			}
			if string(again) != string(config) {
				t.Errorf("the next update would change a new machine:\n%s\n%s", config, again)
			}
		}
	})
}

// FuzzUpdate finds machine configs that panic, or that two rollouts in a row
// change.
func FuzzUpdate(f *testing.F) {
	docs := seeds(f)
	for i, config := range []string{
		`{}`, `{"guest":{"memory_mb":1.5},"services":[{}],"standbys":["m1"],"env":{"FLY_STANDBY_FOR":"m1"}}`,
		`{"mounts":[{"name":"data","path":"/d","volume":"vol1","size_gb":1}],"metadata":{"fly_process_group":"app"}}`,
		`{"containers":[{"name":"app","files":[{"image_config":"."}]},null],"init":7,"metadata":[],"new":[1e400]}`,
	} {
		for j := i; j < len(docs); j += 4 {
			f.Add(docs[j], []byte(config))
		}
	}
	f.Fuzz(func(t *testing.T, doc, existing []byte) {
		c, _, err := Parse("fly.toml", doc)
		if err != nil {
			return
		}
		group := c.MachineGroup(existing)
		running := []json.RawMessage{existing}
		if _, err := c.ReleaseCommand(secondImage, running); err == nil {
			_, _ = c.machineCheckConfigs(group, existing, "fdaa::2")
		}
		for _, make := range []func(json.RawMessage, string, string) (json.RawMessage, error){c.updateConfig, c.replaceConfig} {
			config, err := make(existing, group, secondImage)
			if err != nil {
				continue
			}
			again, err := c.updateConfig(config, group, secondImage)
			if errors.Is(err, ErrVolume) || errors.Is(err, ErrReplace) {
				continue // a new machine has no volume yet
			}
			if err != nil || !bytes.Equal(again, config) {
				t.Errorf("%v; it is changed again:\n%s\n%s", err, config, again)
			}
		}
	})
}

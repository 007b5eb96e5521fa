package flytoml

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// flags are what a case was recorded with on flyctl's command line. A release
// has only its files, so each flag is read as what it would be there.
type flags struct {
	single    bool   // --ha=false: no second machine
	reachable string // "", private or none: --flycast, --no-public-ips
	env       map[string]any
	deploy    map[string]any
	region    string
	files     []any
	vm        map[string]any // of machines to be made, if the file says none
	volume    int64          // GB, if the file says none
}

func readFlags(t *testing.T, dir string) flags {
	f := flags{env: map[string]any{}, deploy: map[string]any{}, vm: map[string]any{}}
	doc, err := os.ReadFile(filepath.Join(dir, "args.txt"))
	if err != nil {
		return f
	}
	args, err := splitWords(string(doc))
	if err != nil {
		t.Fatal(err)
	}
	for len(args) > 0 {
		name, value, has := strings.Cut(args[0], "=")
		args = args[1:]
		if !has && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			value, args = args[0], args[1:]
		}
		if err := f.set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *flags) set(name, value string) error {
	key, rest, _ := strings.Cut(value, "=")
	number, _ := strconv.ParseInt(value, 10, 64)
	file := func(from string) { f.files = append(f.files, map[string]any{"guest_path": key, from: rest}) }
	switch name {
	case "--ha":
		f.single = value == "false"
	case "--flycast":
		f.reachable = "private"
	case "--no-public-ips":
		f.reachable = "none"
	case "--env", "-e":
		f.env[key] = rest
	case "--strategy":
		f.deploy["strategy"] = value
	case "--max-unavailable":
		n, err := strconv.ParseFloat(value, 64)
		f.deploy["max_unavailable"] = n
		return err
	case "--primary-region", "-r":
		f.region = value
	case "--file-local":
		file("local_path")
	case "--file-literal":
		file("raw_value")
	case "--file-secret":
		file("secret_name")
	case "--volume-initial-size":
		f.volume = number
	case "--vm-size":
		f.vm["size"] = value
	case "--vm-memory":
		f.vm["memory"] = value
	case "--vm-cpu-kind":
		f.vm["cpu_kind"] = value
	case "--vm-gpu-kind":
		f.vm["gpu_kind"] = value
	case "--vm-cpus":
		f.vm["cpus"] = number
	case "--vm-gpus":
		f.vm["gpus"] = number
	default:
		return fmt.Errorf("flag %s is not known here: say what it would be in a fly.toml", name)
	}
	return nil
}

// sent is the file as it goes into the Fly release.
func (f flags) sent(t *testing.T, doc []byte) []byte { return f.apply(t, doc, false, false) }

// updated is the file as it counts for machines that are there.
func (f flags) updated(t *testing.T, doc []byte) []byte { return f.apply(t, doc, true, false) }

// created is the file as it counts for new machines.
func (f flags) created(t *testing.T, doc []byte) []byte { return f.apply(t, doc, true, true) }

func (f flags) apply(t *testing.T, doc []byte, files, sizes bool) []byte {
	root := map[string]any{}
	if err := toml.Unmarshal(doc, &root); err != nil {
		t.Fatal(err)
	}
	for section, values := range map[string]map[string]any{"env": f.env, "deploy": f.deploy} {
		for key, v := range values {
			child(root, section)[key] = v
		}
	}
	if f.region != "" {
		root["primary_region"] = f.region
	}
	if files && len(f.files) > 0 {
		had, _ := root["files"].([]any)
		root["files"] = append(had, f.files...)
	}
	if sizes && root["vm"] == nil && len(f.vm) > 0 {
		root["vm"] = []any{f.vm}
	}
	if sizes && f.volume > 0 {
		for _, m := range append(tables(root["mounts"]), tables(root["mount"])...) {
			if m := m.(map[string]any); m["initial_size"] == nil {
				m["initial_size"] = f.volume
			}
		}
	}
	out, err := toml.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (f flags) addresses(c *Config) []string {
	switch {
	case f.reachable == "none" || len(c.services) == 0:
		return nil
	case f.reachable == "private":
		return []string{"private_v6"}
	}
	return c.Addresses()
}

func placeholder(kind string, n int) string { return fmt.Sprintf("<%s:%d>", kind, n) }

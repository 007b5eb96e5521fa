package flytoml

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// flags are the flyctl flags that a case was recorded with. A release has no
// flags, so each is translated to its equivalent in fly.toml, or to the part of
// a rollout that it leaves out.
type flags struct {
	single    bool   // --ha=false: no second machine
	unmade    bool   // --update-only: no machine for a group that has none
	noRelease bool   // --skip-release-command
	reachable string // "", private or none: --flycast, --no-public-ips
	groups    []string
	in, notIn []string // regions
	env       map[string]any
	deploy    map[string]any
	region    string
	locals    []any
	literals  []any
	secrets   []any
	size      map[string]string // --vm-*: size of new machines if the file has none
	volume    int64             // GB, if the file has no size
}

// elsewhere has the flags that change how flyctl waits, builds or connects, but
// not its requests.
var elsewhere = strings.Fields(`--build-arg --build-secret --build-target --compression --compression-level --debug --deploy-retries
	--depot --detach --dns-checks --dockerfile --ignorefile --image-label --immediate-max-concurrent --json --label --lease-timeout
	--local-only --max-concurrent --no-cache --now --push --release-command-timeout --remote-only --signal -s --smoke-checks --verbose
	--wait-timeout --wg --yes -y`)

func readFlags(t *testing.T, dir string) flags {
	f := flags{env: map[string]any{}, deploy: map[string]any{}, size: map[string]string{}}
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
		if arg := args[0]; !strings.HasPrefix(arg, "--") && len(arg) > 2 { // -eA=1
			name, value, has = arg[:2], strings.TrimPrefix(arg[2:], "="), true
		}
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
	yes := value != "false"
	file := func(from string) any { return map[string]any{"guest_path": key, from: rest} }
	switch name {
	case "--ha":
		f.single = !yes
	case "--update-only":
		f.unmade = yes
	case "--skip-release-command":
		f.noRelease = yes
	case "--flycast":
		f.reachable = "private"
	case "--no-public-ips":
		f.reachable = cmp.Or(f.reachable, "none") // --flycast takes precedence
	case "--process-groups":
		f.groups = append(f.groups, strings.Split(value, ",")...)
	case "--regions", "--only-regions":
		f.in = append(f.in, strings.Split(value, ",")...)
	case "--exclude-regions":
		f.notIn = append(f.notIn, strings.Split(value, ",")...)
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
		f.locals = append(f.locals, file("local_path"))
	case "--file-literal":
		f.literals = append(f.literals, file("raw_value"))
	case "--file-secret":
		f.secrets = append(f.secrets, file("secret_name"))
	case "--volume-initial-size":
		n, err := strconv.ParseInt(value, 10, 64)
		f.volume = n
		return err
	case "--vm-size", "--vm-memory", "--vm-max-memory", "--vm-cpus", "--vm-cpu-kind", "--host-dedication-id":
		f.size[name] = value
	case "--memory", "--cpus":
		f.size["--vm-"+name[2:]] = value
	case "--vm-cpukind":
		f.size["--vm-cpu-kind"] = value
	default:
		if !slices.Contains(elsewhere, name) {
			return fmt.Errorf("flag %s is unknown: add its equivalent in fly.toml to flags.set", name)
		}
	}
	return nil
}

// skips reports whether the flags exclude a machine.
func (f flags) skips(p post) bool {
	return len(f.groups) > 0 && !slices.Contains(f.groups, groupOf(p)) ||
		len(f.in) > 0 && !slices.Contains(f.in, p.Region) || slices.Contains(f.notIn, p.Region)
}

// vm returns the size flags as a [[vm]] without processes; nil if there are
// none.
func (f flags) vm(t *testing.T) map[string]any {
	if len(f.size) == 0 {
		return nil
	}
	vm := map[string]any{}
	for name, key := range map[string]string{"--vm-size": "size", "--vm-cpu-kind": "cpu_kind", "--host-dedication-id": "host_dedication_id", "--vm-memory": "memory"} {
		if v, ok := f.size[name]; ok {
			vm[key] = v
		}
	}
	if v, ok := f.size["--vm-cpus"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		vm["cpus"] = int64(n)
	}
	if v, ok := f.size["--vm-max-memory"]; ok {
		n, err := parseSize(v, memoryBase, memoryUnit)
		if err != nil {
			t.Fatal(err)
		}
		vm["max_memory_mb"] = int64(n)
	}
	return vm
}

// withSize returns the config of a machine that runs a check, with the size of
// the flags.
func (f flags) withSize(t *testing.T, config json.RawMessage) json.RawMessage {
	vm := f.vm(t)
	if vm == nil {
		return config
	}
	doc, err := toml.Marshal(map[string]any{"app": "shop", "vm": []any{vm}})
	if err != nil {
		t.Fatal(err)
	}
	sized, _, err := Parse("fly.toml", doc)
	if err != nil {
		t.Fatal(err)
	}
	var machine map[string]any
	unmarshal(t, config, &machine)
	guest := *sized.guestOf(DefaultGroup)
	if host, _ := childObject(machine, "guest")["host_dedication_id"].(string); host != "" {
		guest.HostDedicationID = host
	}
	machine["guest"] = guest
	return mustJSON(t, machine)
}

// sentFile returns the file as it goes into the Fly release.
func (f flags) sentFile(t *testing.T, doc []byte) []byte { return f.applyTo(t, doc, false, false) }

// updatedFile returns the file as it applies to existing machines.
func (f flags) updatedFile(t *testing.T, doc []byte) []byte { return f.applyTo(t, doc, true, false) }

// createdFile returns the file as it applies to new machines.
func (f flags) createdFile(t *testing.T, doc []byte) []byte { return f.applyTo(t, doc, true, true) }

func (f flags) applyTo(t *testing.T, doc []byte, files, sizes bool) []byte {
	root := map[string]any{}
	if err := toml.Unmarshal(doc, &root); err != nil {
		t.Fatal(err)
	}
	root["app"] = "shop" // -a shop
	if len(f.env) > 0 {
		root["env"] = append(tableList(root["env"]), f.env)
	}
	if len(f.deploy) > 0 {
		maps.Copy(childObject(root, "deploy"), f.deploy)
	}
	if f.region != "" {
		root["primary_region"] = f.region
	}
	if more := slices.Concat(f.locals, f.literals, f.secrets); files && len(more) > 0 {
		had, _ := root["files"].([]any)
		root["files"] = append(had, more...)
	}
	if vm := f.vm(t); sizes && vm != nil {
		f.addSize(root, vm)
	}
	if sizes && f.volume > 0 {
		for _, m := range append(tableList(root["mounts"]), tableList(root["mount"])...) {
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

// addSize adds the size flags to a file that has no sizes: for machines, and for
// the release command unless it takes the size from a machine.
func (f flags) addSize(root, vm map[string]any) {
	if root["host_dedication_id"] != nil {
		delete(vm, "host_dedication_id")
	}
	root["vm"] = append(tableList(root["vm"]), vm) // the first one without processes applies
	deploy, _ := root["deploy"].(map[string]any)
	if release := maps.Clone(vm); deploy["release_command"] != nil && deploy["release_command_vm"] == nil {
		if delete(release, "host_dedication_id"); len(release) > 0 {
			deploy["release_command_vm"] = vm
		}
	}
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

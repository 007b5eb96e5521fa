package flytoml

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/microbima/release/internal/rawjson"
)

// A rollout keeps what was set on a machine by hand or by a newer Fly, and
// replaces what fly.toml set before.
func TestUpdate_KeepsOtherFields(t *testing.T) {
	got := mustUpdate(t, `app = "shop"`, `{
		"image": "old", "schedule": "daily", "auto_destroy": true, "size": "x", "dns": {"skip_registration": true},
		"processes": [{"exec": ["a"]}], "standbys": ["m1"], "guest": {"cpus": 3, "brand_new": 1.50},
		"from_the_future": {"deep": [1, 2.0, 12345678901234567890]},
		"init": {"tty": true, "cmd": ["old"], "kernel_args": ["quiet"]},
		"metadata": {"mine": "1", "fly_release_id": "r1", "fly_process_group": "app"},
		"env": {"GONE": "1"}, "checks": {"gone": {}}, "services": [{}], "metrics": {}, "files": [{}],
		"statics": [{}], "stop_config": {}, "restart": {"policy": "no"}
	}`)
	want := `{"auto_destroy":true,"dns":{"skip_registration":true},"env":{"FLY_PROCESS_GROUP":"app"},` +
		`"from_the_future":{"deep":[1,2.0,12345678901234567890]},"guest":{"brand_new":1.50,"cpus":3},` +
		`"image":"` + secondImage + `","init":{"kernel_args":["quiet"],"tty":true},` +
		`"metadata":{"fly_platform_version":"v2","fly_process_group":"app","fly_release_id":"r1","mine":"1"},` +
		`"processes":[{"exec":["a"]}],"schedule":"daily","size":"x","standbys":["m1"]}`
	if doc, _ := rawjson.Marshal(got); string(doc) != want {
		t.Errorf("have %s\nwant %s", doc, want)
	}
}

func TestUpdate_Standby(t *testing.T) {
	const standby = `{"image":"` + secondImage + `","standbys":["m1"],"env":{"FLY_PROCESS_GROUP":"app","FLY_STANDBY_FOR":"m1"},` +
		`"init":{},"metadata":{"fly_platform_version":"v2","fly_process_group":"app"}}`
	same, err := mustParse(t, `app = "shop"`).updateConfig(json.RawMessage(standby), "app", secondImage)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(same), "FLY_STANDBY_FOR") {
		t.Errorf("an unchanged standby is changed: %s", same)
	}
	if _, kept := mustUpdate(t, web, standby)["standbys"]; kept {
		t.Error("a machine with a service is still a standby")
	}
}

func TestUpdate_Volume(t *testing.T) {
	mounts := func(name, path, more string) string {
		return web + "[mounts]\nsource = \"" + name + "\"\ndestination = \"" + path + "\"\n" + more
	}
	const has = `{"mounts":[{"name":"data","path":"/data","volume":"vol1","size_gb":3,"encrypted":true}]}`
	for name, c := range map[string]struct {
		doc, existing, want string
		err                 error
	}{
		"unchanged":         {mounts("data", "/data", ""), has, `[{"encrypted":true,"name":"data","path":"/data","size_gb":3,"volume":"vol1"}]`, nil},
		"grows":             {mounts("data", "/data", "auto_extend_size_threshold = 80\nauto_extend_size_increment = \"1gb\"\n"), has, `[{"add_size_gb":1,"encrypted":true,"extend_threshold_percent":80,"name":"data","path":"/data","size_gb":3,"volume":"vol1"}]`, nil},
		"mounted elsewhere": {mounts("data", "/d", ""), has, `[{"name":"data","path":"/d","volume":"vol1"}]`, nil},
		"name unknown":      {mounts("data", "/d", ""), `{"mounts":[{"path":"/old","volume":"vol1"}]}`, `[{"path":"/old","volume":"vol1"}]`, nil},
		"another":           {mounts("other", "/data", ""), has, "", ErrVolume},
		"removed":           {web, has, "", ErrVolume},
		"added":             {mounts("data", "/data", ""), `{}`, "", ErrReplace},
		"none":              {web, `{}`, `null`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := mustParse(t, c.doc).updateConfig(json.RawMessage(c.existing), "app", secondImage)
			if !errors.Is(err, c.err) {
				t.Fatalf("error is %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			o, _ := decodeObject(config)
			if got, _ := rawjson.Marshal(o["mounts"]); string(got) != c.want {
				t.Errorf("mounts are %s, want %s", got, c.want)
			}
		})
	}
}

func TestUpdate_DedicatedHost(t *testing.T) {
	const there, volume = `{"guest":{"host_dedication_id":"hd1"}}`, `{"guest":{},"mounts":[{"name":"data","path":"/data","volume":"vol1"}]}`
	const mounts = "[mounts]\nsource = \"data\"\ndestination = \"/data\"\n"
	for name, c := range map[string]struct {
		doc, existing string
		err           error
	}{
		"is there":                    {"[[vm]]\nhost_dedication_id = \"hd1\"\n", there, nil},
		"is elsewhere":                {"[[vm]]\nhost_dedication_id = \"hd1\"\n", `{"guest":{}}`, ErrReplace},
		"is elsewhere, with a volume": {mounts + "[[vm]]\nhost_dedication_id = \"hd1\"\n", volume, ErrVolume},
		"no host in the file":         {mounts, volume, nil},
	} {
		_, err := mustParse(t, web+c.doc).updateConfig(json.RawMessage(c.existing), "app", secondImage)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
}

// A replacement keeps what was set with fly scale and fly machine update.
func TestReplace(t *testing.T) {
	c := mustParse(t, web+"[mounts]\nsource = \"data\"\ndestination = \"/data\"\n")
	for name, x := range map[string]struct{ existing, want string }{
		"scaled": {
			`{"guest":{"cpus":4,"cpu_kind":"shared","memory_mb":1024},"schedule":"daily","metadata":{"team":"red"},"new":1.50}`,
			`"guest":{"cpu_kind":"shared","cpus":4,"memory_mb":1024},"image":"` + secondImage + `","init":{},` +
				`"metadata":{"fly_platform_version":"v2","fly_process_group":"app","team":"red"},` +
				`"mounts":[{"name":"data","path":"/data"}],"new":1.50,"schedule":"daily"`,
		},
		"config unknown":      {"", `"guest":{"cpu_kind":"shared","cpus":1,"memory_mb":256}`},
		"config partly known": {`{"metadata":{"team":"red"}}`, `"guest":{"cpu_kind":"shared","cpus":1,"memory_mb":256}`},
	} {
		got, err := c.replaceConfig(json.RawMessage(x.existing), "app", secondImage)
		if err != nil || !strings.Contains(string(got), x.want) {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, x.want)
		}
	}
	if _, err := c.replaceConfig(json.RawMessage(`{"mounts":[{"volume":"vol1"}]}`), "app", secondImage); !errors.Is(err, ErrVolume) {
		t.Errorf("a machine with a volume is replaced: %v", err)
	}
	if _, err := c.replaceConfig(json.RawMessage(`[`), "app", secondImage); err == nil {
		t.Error("an invalid machine config is accepted")
	}
}

func TestMachineGroup(t *testing.T) {
	c := mustParse(t, "app = \"shop\"\n[processes]\nweb = \"w\"\ncron = \"c\"\n")
	for config, want := range map[string]string{
		`{"metadata":{"fly_process_group":"web","process_group":"cron"}}`: "web",
		`{"metadata":{"fly_process_group":"gone"}}`:                       "gone",
		`{"metadata":{"process_group":"web"}}`:                            "web",
		`{"metadata":{"process_group":"gone"}}`:                           "cron",
		`{"metadata":{}}`:                                                 "cron",
		`{}`:                                                              "cron",
		``:                                                                "cron",
	} {
		if got := c.MachineGroup(json.RawMessage(config)); got != want {
			t.Errorf("%s is of group %s, want %s", config, got, want)
		}
	}
}

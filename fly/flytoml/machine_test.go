package flytoml

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

const web = `app = "shop"
primary_region = "fra"
[env]
LOG_LEVEL = "info"
[http_service]
internal_port = 8080
`

func parse(t *testing.T, doc string) *Config {
	t.Helper()
	c, _, err := Parse("fly.toml", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func updated(t *testing.T, doc, existing string) object {
	t.Helper()
	config, err := parse(t, doc).Update(json.RawMessage(existing), "app", secondImage)
	if err != nil {
		t.Fatal(err)
	}
	o, err := decode(config)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// What a person set on a machine, and what a newer Fly put there, outlives a
// rollout; what fly.toml says replaces what it said before.
func TestUpdateKeeps(t *testing.T) {
	got := updated(t, `app = "shop"`, `{
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
	if doc, _ := encode(got); string(doc) != want {
		t.Errorf("have %s\nwant %s", doc, want)
	}
}

func TestUpdateStandby(t *testing.T) {
	const standby = `{"image":"` + secondImage + `","standbys":["m1"],"env":{"FLY_PROCESS_GROUP":"app","FLY_STANDBY_FOR":"m1"},` +
		`"init":{},"metadata":{"fly_platform_version":"v2","fly_process_group":"app"}}`
	same, err := parse(t, `app = "shop"`).Update(json.RawMessage(standby), "app", secondImage)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(same), "FLY_STANDBY_FOR") {
		t.Errorf("a standby on which nothing changes is changed: %s", same)
	}
	if _, kept := updated(t, web, standby)["standbys"]; kept {
		t.Error("a machine that serves is still a standby")
	}
}

func TestUpdateVolume(t *testing.T) {
	mounts := func(name, path, more string) string {
		return web + "[mounts]\nsource = \"" + name + "\"\ndestination = \"" + path + "\"\n" + more
	}
	const has = `{"mounts":[{"name":"data","path":"/data","volume":"vol1","size_gb":3,"encrypted":true}]}`
	for name, c := range map[string]struct {
		doc, existing, want string
		err                 error
	}{
		"as it is":          {mounts("data", "/data", ""), has, `[{"encrypted":true,"name":"data","path":"/data","size_gb":3,"volume":"vol1"}]`, nil},
		"grows":             {mounts("data", "/data", "auto_extend_size_threshold = 80\nauto_extend_size_increment = \"1gb\"\n"), has, `[{"add_size_gb":1,"encrypted":true,"extend_threshold_percent":80,"name":"data","path":"/data","size_gb":3,"volume":"vol1"}]`, nil},
		"mounted elsewhere": {mounts("data", "/d", ""), has, `[{"name":"data","path":"/d","volume":"vol1"}]`, nil},
		"name not known":    {mounts("data", "/d", ""), `{"mounts":[{"path":"/old","volume":"vol1"}]}`, `[{"path":"/old","volume":"vol1"}]`, nil},
		"another":           {mounts("other", "/data", ""), has, "", ErrReplace},
		"taken away":        {web, has, "", ErrReplace},
		"added":             {mounts("data", "/data", ""), `{}`, "", ErrReplace},
		"none":              {web, `{}`, `null`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := parse(t, c.doc).Update(json.RawMessage(c.existing), "app", secondImage)
			if !errors.Is(err, c.err) {
				t.Fatalf("error is %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			o, _ := decode(config)
			if got, _ := encode(o["mounts"]); string(got) != c.want {
				t.Errorf("mounts are %s, want %s", got, c.want)
			}
		})
	}
}

func TestUpdateDedicatedHost(t *testing.T) {
	c := parse(t, web+"[[vm]]\nsize = \"shared-cpu-1x\"\nhost_dedication_id = \"hd1\"\n")
	if _, err := c.Update(json.RawMessage(`{"guest":{"host_dedication_id":"hd1"}}`), "app", secondImage); err != nil {
		t.Error(err)
	}
	if _, err := c.Update(json.RawMessage(`{"guest":{}}`), "app", secondImage); !errors.Is(err, ErrReplace) {
		t.Errorf("a machine that is elsewhere: %v", err)
	}
}

func TestUpdateNonsense(t *testing.T) {
	for _, doc := range []string{``, `[]`, `7`, `{`} {
		if _, err := parse(t, web).Update(json.RawMessage(doc), "app", secondImage); err == nil {
			t.Errorf("%q is taken for a machine config", doc)
		}
	}
	if _, err := parse(t, web).Update(json.RawMessage(`{"metadata":7,"init":[],"guest":"x","mounts":{}}`), "app", secondImage); err != nil {
		t.Errorf("odd types of fields: %v", err)
	}
	if _, err := parse(t, web).Create("worker", firstImage); err == nil {
		t.Error("a machine is made for a group that isn't there")
	}
}

func TestReleaseCommandSize(t *testing.T) {
	running := []json.RawMessage{
		[]byte(`{"metadata":{"fly_process_group":"app"},"guest":{"memory_mb":512,"cpus":1}}`),
		[]byte(`{"metadata":{"fly_process_group":"app"},"guest":{"memory_mb":2048,"cpus":1}}`),
		[]byte(`{"metadata":{"fly_process_group":"other"},"guest":{"memory_mb":9999,"cpus":1}}`),
	}
	for doc, want := range map[string]string{
		"": "2048",
		"[deploy.release_command_vm]\nsize = \"performance-1x\"\nmemory = \"4gb\"\n": "4096",
	} {
		c := parse(t, web+"[deploy]\nrelease_command = \"migrate\"\n"+doc)
		config, err := c.ReleaseCommand(secondImage, running)
		if err != nil {
			t.Fatal(err)
		}
		o, _ := decode(config)
		if got := o["guest"].(object)["memory_mb"]; got != json.Number(want) {
			t.Errorf("the release command gets %v MB, want %s", got, want)
		}
	}
	if config, err := parse(t, web).ReleaseCommand(secondImage, nil); config != nil || err != nil {
		t.Errorf("without a command: %s, %v", config, err)
	}
}

func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		``:                                nil,
		` a  b `:                          {"a", "b"},
		`a 'b c' "d e"`:                   {"a", "b c", "d e"},
		`--name="a b"`:                    {"--name=a b"},
		`'' ""`:                           {"", ""},
		`a\ b "c\"d" 'e\f'`:               {"a b", `c"d`, `e\f`},
		"a # to the end\nb":               {"a", "b"},
		`a#b`:                             {"a#b"},
		`sh -c 'echo "$HOME" && ls | wc'`: {"sh", "-c", `echo "$HOME" && ls | wc`},
	} {
		got, err := splitWords(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s is %q, %v; want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`'a`, `"a`, `a\`} {
		if got, err := splitWords(line); err == nil {
			t.Errorf("%s is %q", line, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int{
		"512": 512, "512mb": 512, "512 MB": 512, "1gb": 1024, "1GiB": 1024, "1.5g": 1536, "2t": 2 << 20, "1048576b": 1, "100kb": 0,
	} {
		if got, err := parseSize(s, memoryBase, memoryUnit); got != want || err != nil {
			t.Errorf("%s is %d MB, %v; want %d", s, got, err, want)
		}
	}
	if got, err := parseSize("30gb", volumeBase, volumeUnit); got != 30 || err != nil {
		t.Errorf("30gb is %d GB, %v", got, err)
	}
	for _, s := range []string{"", "mb", "lots", "-1", "-1gb", "1 zb", "1ib", "1bb", "1e3mb", "9999999999", "1.2.3gb", "1gbgb", "NaN", "Inf", "infmb"} {
		if got, err := parseSize(s, memoryBase, memoryUnit); err == nil {
			t.Errorf("%q is %d", s, got)
		}
	}
}

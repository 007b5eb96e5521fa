package flytoml

import (
	"encoding/json"
	"slices"
	"testing"
)

const web = `app = "shop"
primary_region = "fra"
[env]
LOG_LEVEL = "info"
[http_service]
internal_port = 8080
`

func mustParse(t *testing.T, doc string) *Config {
	t.Helper()
	c, _, err := Parse("fly.toml", []byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustUpdate(t *testing.T, doc, existing string) object {
	t.Helper()
	config, err := mustParse(t, doc).updateConfig(json.RawMessage(existing), "app", secondImage)
	if err != nil {
		t.Fatal(err)
	}
	o, err := decodeObject(config)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestUpdate_InvalidConfig(t *testing.T) {
	for _, doc := range []string{``, `[]`, `7`, `{`} {
		if _, err := mustParse(t, web).updateConfig(json.RawMessage(doc), "app", secondImage); err == nil {
			t.Errorf("%q is accepted as a machine config", doc)
		}
	}
	if _, err := mustParse(t, web).updateConfig(json.RawMessage(`{"metadata":7,"init":[],"guest":"x","mounts":{}}`), "app", secondImage); err != nil {
		t.Errorf("odd types of fields: %v", err)
	}
	if _, err := mustParse(t, web).createConfig("worker", firstImage); err == nil {
		t.Error("a machine is created for a group that doesn't exist")
	}
}

func TestReleaseCommand_GuestSize(t *testing.T) {
	running := []json.RawMessage{
		[]byte(`{"metadata":{"fly_process_group":"app"},"guest":{"memory_mb":512,"cpus":1}}`),
		[]byte(`{"metadata":{"fly_process_group":"app"},"guest":{"memory_mb":2048,"cpus":1}}`),
		[]byte(`{"metadata":{"fly_process_group":"other"},"guest":{"memory_mb":9999,"cpus":1}}`),
	}
	for doc, want := range map[string]string{
		"": "2048",
		"[deploy.release_command_vm]\nsize = \"performance-1x\"\nmemory = \"4gb\"\n": "4096",
	} {
		c := mustParse(t, web+"[deploy]\nrelease_command = \"migrate\"\n"+doc)
		config, err := c.ReleaseCommand(secondImage, running)
		if err != nil {
			t.Fatal(err)
		}
		o, _ := decodeObject(config)
		if got := o["guest"].(object)["memory_mb"]; got != json.Number(want) {
			t.Errorf("the release command gets %v MB, want %s", got, want)
		}
	}
	if config, err := mustParse(t, web).ReleaseCommand(secondImage, nil); config != nil || err != nil {
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

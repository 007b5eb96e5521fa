package flytoml

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Images in the recorded runs.
const (
	firstImage  = "registry.fly.io/shop@sha256:" + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	secondImage = "registry.fly.io/shop@sha256:" + "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// different lists the intended differences from flyctl.
var different = []struct{ what, why string }{
	{"metadata fly_release_id, fly_release_version, fly_flyctl_version",
		"set when a machine changes for another reason; a new release number alone changes no machine"},
	{"metadata fly_canary, the machines that have it and those that test them", "the canary is one of the machines, not an additional one"},
	{"host_dedication_id of a volume", "always set; flyctl omits it without [[vm]], and the machine could not mount the volume"},
	{"metadata fly_bluegreen_deployment_tag, fly_flyctl_bluegreen_launch_id", "set when a green machine is created"},
	{"containers of machine_config", "replaced; flyctl keeps old fields of the n-th container, and image_config \".\" of its files"},
}

// TestGolden compares the requests of a first and a second rollout with the
// recorded requests of the real flyctl.
func TestGolden(t *testing.T) {
	roots := []string{os.Getenv("FLY_GOLDEN")}
	if roots[0] == "" {
		roots = []string{filepath.Join("testdata", "golden", "own"), filepath.Join("testdata", "golden", "more")}
	}
	for _, root := range roots {
		files, err := filepath.Glob(filepath.Join(root, "*", "update.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no cases in %s: %v", root, err)
		}
		for _, file := range files {
			dir := filepath.Dir(file)
			t.Run(filepath.Base(dir), func(t *testing.T) {
				g := readGolden(t, dir)
				show := func(what, diff string) {
					if diff != "" {
						t.Errorf("%s differs from flyctl's (-flyctl +ours):\n%s", what, diff)
					}
				}
				show("update", g.updateDiff(t))
				if !g.given {
					show("first rollout", g.firstDiff(t))
					show("Fly release", g.definitionDiff(t))
					show("addresses and volumes", g.callsDiff(t))
				}
			})
		}
	}
	for _, d := range different {
		t.Logf("different on purpose: %s: %s", d.what, d.why)
	}
}

// A goldenCase is one recorded fly.toml, parsed by this package.
type goldenCase struct {
	dir     string
	sent    *Config // as it goes into the Fly release
	created *Config // for machines made in the first rollout
	updated *Config // for existing machines
	flags   flags
	first   []post // the machines before the update
	given   bool   // first is from before.json rather than from this file
}

// post is a body of POST /machines and POST /machines/<id>.
type post struct {
	Config     map[string]any `json:"config"`
	Region     string         `json:"region"`
	SkipLaunch bool           `json:"skip_launch,omitempty"`
}

func readGolden(t *testing.T, dir string) *goldenCase {
	g := &goldenCase{dir: dir, flags: readFlags(t, dir)}
	parse := func(doc []byte) *Config {
		c, _, err := Parse("fly.toml", doc)
		var problems Problems
		errors.As(err, &problems)
		for _, p := range problems {
			if p.Key != "deploy.wait_timeout" { // every command line has a flag for it
				t.Fatalf("flyctl accepted this file, and we don't:\n%v", err)
			}
		}
		content := map[string][]byte{}
		for files := c.LocalFiles(); len(files) > len(content); files = c.LocalFiles() {
			for _, f := range files {
				if content[f.Name], err = os.ReadFile(filepath.Join(dir, f.Name)); err != nil {
					t.Fatal(err)
				}
			}
			c = c.WithFiles(content)
		}
		return c
	}
	doc, err := os.ReadFile(filepath.Join(dir, "fly.toml"))
	if err != nil {
		t.Fatal(err)
	}
	g.sent = parse(g.flags.sentFile(t, doc))
	g.created = parse(g.flags.createdFile(t, doc))
	g.updated = parse(g.flags.updatedFile(t, doc))
	before := filepath.Join(dir, "before.json")
	if _, err := os.Stat(before); err == nil {
		g.given = true
		readJSON(t, before, &g.first)
		g.first = slices.DeleteFunc(g.first, func(p post) bool { return p.Config == nil }) // volumes
	} else {
		readJSON(t, filepath.Join(dir, "machines.json"), &g.first)
		removeStamps(g.first)
	}
	return g
}

func (g *goldenCase) firstDiff(t *testing.T) string {
	return cmp.Diff(g.first, firstRollout(t, g.created, g.flags), cmpopts.EquateEmpty())
}

// updateDiff compares the updates of existing machines.
func (g *goldenCase) updateDiff(t *testing.T) string {
	var updates []struct {
		Path string `json:"path"`
		Body post   `json:"body"`
	}
	readJSON(t, filepath.Join(g.dir, "update.json"), &updates)
	var want, got []post
	greens := 0
	for _, update := range updates {
		p, id := update.Body, filepath.Base(update.Path)
		metadata := p.Config["metadata"].(map[string]any)
		if metadata["fly_canary"] != nil || g.testsCanary(p) {
			continue
		}
		if metadata["fly_bluegreen_deployment_tag"] != nil {
			id = placeholder("machine", greens) // the machine that it replaces
			greens++
		}
		removeStamps([]post{p})
		want = append(want, p)
		configs, err := g.secondPosts(t, p, id)
		if err != nil {
			return err.Error()
		}
		for i, config := range configs {
			ours := post{Region: p.Region} // both come from the machine, not from the file
			ours.SkipLaunch = p.SkipLaunch && i == 0
			unmarshal(t, config, &ours.Config)
			got = append(got, ours)
		}
	}
	bytewise := cmpopts.SortSlices(func(a, b post) bool { return string(mustJSON(t, a)) < string(mustJSON(t, b)) })
	return cmp.Diff(want, got, bytewise)
}

// secondPosts returns our posts in place of flyctl's post p, to machine id or for a
// new one. The machines that test an updated one come right after it, unlike
// flyctl's.
func (g *goldenCase) secondPosts(t *testing.T, p post, id string) ([]json.RawMessage, error) {
	var running []json.RawMessage
	existing := map[string]map[string]any{}
	for i, p := range g.first {
		existing[placeholder("machine", i)] = p.Config
		if !g.flags.skips(p) {
			running = append(running, mustJSON(t, p.Config))
		}
	}
	switch {
	case groupOf(p) == CheckGroup:
		return nil, nil
	case groupOf(p) == ReleaseGroup && len(running) == 0:
		doc, err := g.created.ReleaseCommand(secondImage, nil)
		return []json.RawMessage{doc}, err
	case groupOf(p) == ReleaseGroup:
		doc, err := g.updated.ReleaseCommand(secondImage, running)
		return []json.RawMessage{doc}, err
	case id == "machines" && len(running) == 0:
		doc, err := g.created.createConfig(groupOf(p), secondImage)
		return []json.RawMessage{doc}, err
	case id == "machines":
		doc, err := g.updated.replaceConfig(running[0], groupOf(p), secondImage)
		return []json.RawMessage{withVolume(doc)}, err
	}
	doc, err := g.updated.updateConfig(mustJSON(t, reportedConfig(existing[id], p.Config)), groupOf(p), secondImage)
	if err != nil || p.SkipLaunch || g.updated.Strategy() == "immediate" { // immediate tests nothing
		return []json.RawMessage{doc}, err
	}
	checks, err := g.updated.machineCheckConfigs(groupOf(p), doc, strings.Replace(id, "machine", "private_ip", 1))
	for i := range checks {
		checks[i] = g.flags.withSize(t, checks[i])
	}
	return append([]json.RawMessage{doc}, checks...), err
}

// testsCanary reports whether p is a machine that tests an additional canary.
func (g *goldenCase) testsCanary(p post) bool {
	env, _ := p.Config["env"].(map[string]any)
	ip, _ := env["FLY_TEST_MACHINE_IP"].(string)
	for i := range g.first {
		if ip == placeholder("private_ip", i) {
			return false
		}
	}
	return groupOf(p) == CheckGroup
}

// call is a recorded request that changes something other than machines.
type call struct {
	Method string         `json:"method"`
	Path   string         `json:"path"`
	Body   map[string]any `json:"body"`
}

func (g *goldenCase) calls(t *testing.T) (calls []call) {
	readJSON(t, filepath.Join(g.dir, "calls.json"), &calls)
	return calls
}

// definitionDiff compares the definition in the Fly release. The app's name was
// a flag.
func (g *goldenCase) definitionDiff(t *testing.T) string {
	doc, err := g.sent.Definition()
	if err != nil {
		return err.Error()
	}
	var ours any
	unmarshal(t, doc, &ours)
	ours.(map[string]any)["app"] = "shop"
	for _, call := range g.calls(t) {
		if call.Path == "/api/v1/releases" {
			return cmp.Diff(call.Body["definition"], ours)
		}
	}
	return "no Fly release was created"
}

// callsDiff compares the addresses and volumes of a first rollout.
func (g *goldenCase) callsDiff(t *testing.T) string {
	want, got := []call{}, []call{}
	for _, c := range g.calls(t) {
		if strings.HasSuffix(c.Path, "/ip_assignments") || strings.HasSuffix(c.Path, "/volumes") {
			for key, v := range c.Body {
				if v == nil {
					delete(c.Body, key) // null: not set
				}
			}
			want = append(want, c)
		}
	}
	for _, kind := range g.flags.addresses(g.created) {
		got = append(got, call{"POST", "/v1/apps/{app}/ip_assignments", map[string]any{
			"type": kind, "network": "", "org_slug": "personal", "region": "", "service_name": "",
		}})
	}
	for _, group := range g.created.Groups() {
		machines, err := g.created.Group(group.Name, firstImage)
		if err != nil {
			return err.Error()
		}
		if machines.Volume != nil {
			c := call{Method: "POST", Path: "/v1/apps/{app}/volumes"}
			unmarshal(t, mustJSON(t, machines.Volume), &c.Body)
			if g.updated.guestOf(group.Name) == nil {
				delete(childObject(c.Body, "compute"), "host_dedication_id")
			}
			got = append(got, c)
		}
	}
	return cmp.Diff(want, got)
}

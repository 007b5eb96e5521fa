package flytoml

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Images of the recorded runs.
const (
	firstImage  = "registry.fly.io/shop@sha256:" + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	secondImage = "registry.fly.io/shop@sha256:" + "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// different are the recorded cases in which our machine configs are not
// flyctl's, and why. A case that has become equal has to leave.
var different = map[string]string{
	"flags-files":    "--file-* flags: a release has only its files",
	"flags-vm":       "--vm-* flags: a release has only its files",
	"machine-checks": "machine checks are not run; Parse warns of them",
}

// TestGolden compares the machines of a first and of a second rollout with
// those that the real flyctl posted.
func TestGolden(t *testing.T) {
	root := os.Getenv("FLY_GOLDEN")
	if root == "" {
		root = filepath.Join("testdata", "golden", "own")
	}
	dirs, err := filepath.Glob(filepath.Join(root, "*", "machines.json"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no cases in %s: %v", root, err)
	}
	for _, file := range dirs {
		dir := filepath.Dir(file)
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			diff := goldenDiff(t, dir)
			why, listed := different[name]
			switch {
			case listed && diff == "":
				t.Errorf("is equal now; take it out of the table of differences")
			case listed:
				t.Logf("differs: %s", why)
			case diff != "":
				t.Errorf("differs from flyctl (-flyctl +ours):\n%s", diff)
			}
		})
	}
}

// post is a body of POST /machines and POST /machines/<id>.
type post struct {
	Config     map[string]any `json:"config"`
	Region     string         `json:"region"`
	SkipLaunch bool           `json:"skip_launch,omitempty"`
}

func goldenDiff(t *testing.T, dir string) string {
	c := goldenConfig(t, dir)
	var first []post
	readJSON(t, filepath.Join(dir, "machines.json"), &first)
	var second []struct {
		Path string `json:"path"`
		Body post   `json:"body"`
	}
	readJSON(t, filepath.Join(dir, "update.json"), &second)

	args, _ := os.ReadFile(filepath.Join(dir, "args.txt"))
	ours := firstRollout(t, c, !strings.Contains(string(args), "--ha=false"))
	stamp(first)
	diff := cmp.Diff(first, ours)

	existing := map[string]post{}
	for i, p := range first {
		existing["<machine:"+strconv.Itoa(i)+">"] = p
	}
	running := make([]json.RawMessage, len(first))
	for i, p := range first {
		running[i] = mustJSON(t, p.Config)
	}
	for _, update := range second {
		want := []post{update.Body}
		stamp(want)
		id := filepath.Base(update.Path)
		got := post{Region: want[0].Region, SkipLaunch: want[0].SkipLaunch} // both come of the machine, not of the file
		var doc json.RawMessage
		var err error
		if id == "machines" {
			doc, err = c.ReleaseCommand(secondImage, running)
		} else {
			machine := reported(existing[id].Config, want[0].Config)
			doc, err = c.Update(mustJSON(t, machine), group(want[0]), secondImage)
		}
		if err != nil {
			return diff + err.Error()
		}
		if doc == nil {
			return diff + "nothing for " + update.Path
		}
		unmarshal(t, doc, &got.Config)
		diff += cmp.Diff(want[0], got)
	}
	return diff
}

func goldenConfig(t *testing.T, dir string) *Config {
	doc, err := os.ReadFile(filepath.Join(dir, "fly.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := Parse("fly.toml", doc)
	if err != nil {
		t.Fatalf("flyctl took this file, and we don't:\n%v", err)
	}
	content := map[string][]byte{}
	for _, f := range c.LocalFiles() {
		if content[f.Name], err = os.ReadFile(filepath.Join(dir, f.Name)); err != nil {
			t.Fatal(err)
		}
	}
	return c.WithFiles(content)
}

// firstRollout is what is posted for an app without machines.
func firstRollout(t *testing.T, c *Config, standbys bool) []post {
	var posts []post
	volumes := 0
	if doc, err := c.ReleaseCommand(firstImage, nil); err != nil {
		t.Fatal(err)
	} else if doc != nil {
		p := post{Region: c.Region(), SkipLaunch: true}
		unmarshal(t, doc, &p.Config)
		posts = append(posts, p)
	}
	for _, g := range c.Groups() {
		create := func() post {
			doc, err := c.Create(g.Name, firstImage)
			if err != nil {
				t.Fatal(err)
			}
			p := post{Region: c.Region()}
			unmarshal(t, doc, &p.Config)
			return p
		}
		posts = append(posts, create())
		switch {
		case g.Mount != nil:
			mount := posts[len(posts)-1].Config["mounts"].([]any)[0].(map[string]any)
			mount["volume"] = fmt.Sprintf("<volume:%d>", volumes)
			volumes++
		case g.Services && standbys:
			posts = append(posts, create())
		case standbys:
			p := create()
			id := fmt.Sprintf("<machine:%d>", len(posts)-1)
			p.SkipLaunch = true
			p.Config["standbys"] = []any{id}
			p.Config["env"].(map[string]any)["FLY_STANDBY_FOR"] = id
			posts = append(posts, p)
		}
	}
	return posts
}

// reported is what the API says of a machine: as it was created, the volume
// described.
func reported(created, wanted map[string]any) map[string]any {
	machine := clone(created)
	if mounts, ok := wanted["mounts"]; ok {
		machine["mounts"] = mounts
	}
	return machine
}

// stamp takes out what is set when a config is applied, not before.
func stamp(posts []post) {
	for _, p := range posts {
		metadata := p.Config["metadata"].(map[string]any)
		for _, key := range []string{"fly_flyctl_version", "fly_release_id", "fly_release_version"} {
			delete(metadata, key)
		}
	}
}

func group(p post) string {
	return p.Config["metadata"].(map[string]any)["fly_process_group"].(string)
}

func readJSON(t *testing.T, file string, v any) {
	t.Helper()
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	unmarshal(t, doc, v)
}

func unmarshal(t *testing.T, doc []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(doc, v); err != nil {
		t.Fatal(err)
	}
}

func mustJSON(t *testing.T, v any) json.RawMessage {
	t.Helper()
	doc, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestGoldenTable(t *testing.T) {
	for name := range different {
		if _, err := os.Stat(filepath.Join("testdata", "golden", "own", name)); err != nil {
			t.Errorf("the table of differences names a case that isn't there: %v", err)
		}
	}
}

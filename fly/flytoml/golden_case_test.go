package flytoml

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// firstRollout returns the posts for an app without machines.
func firstRollout(t *testing.T, c *Config, f flags) (posts []post) {
	made := 0
	volumes := map[string][]string{} // volumes of all groups are created first; a machine takes the first of its name
	for _, g := range c.Groups() {
		if g.Mount != nil {
			volumes[g.Mount.Name] = append(volumes[g.Mount.Name], placeholder("volume", made))
			made++
		}
	}
	if doc, err := c.ReleaseCommand(firstImage, nil); err != nil {
		t.Fatal(err)
	} else if doc != nil && !f.noRelease {
		p := post{Region: c.Region(), SkipLaunch: true}
		unmarshal(t, doc, &p.Config)
		posts = append(posts, p)
	}
	for _, g := range c.Groups() {
		if f.unmade || len(f.groups) > 0 && !slices.Contains(f.groups, g.Name) {
			continue
		}
		create := func() post {
			doc, err := c.createConfig(g.Name, firstImage)
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
			mount["volume"] = volumes[g.Mount.Name][0]
			volumes[g.Mount.Name] = volumes[g.Mount.Name][1:]
		case f.single:
		case g.Services:
			posts = append(posts, create())
		default:
			p := create()
			id := placeholder("machine", len(posts)-1)
			p.SkipLaunch = true
			p.Config["standbys"] = []any{id}
			p.Config["env"].(map[string]any)["FLY_STANDBY_FOR"] = id
			posts = append(posts, p)
		}
	}
	return posts
}

// withVolume returns a new machine's config with the ID of its volume.
func withVolume(config json.RawMessage) json.RawMessage {
	return json.RawMessage(strings.Replace(string(config), `"mounts":[{`, `"mounts":[{"volume":"`+placeholder("volume", 0)+`",`, 1))
}

// reportedConfig returns the machine as the API returns it: as created, with the
// description of its volume.
func reportedConfig(created, wanted map[string]any) map[string]any {
	machine := cloneObject(created)
	if mounts, ok := wanted["mounts"]; ok {
		machine["mounts"] = mounts
	}
	return machine
}

// removeStamps removes the metadata that is set when a config is applied.
func removeStamps(posts []post) {
	for _, p := range posts {
		metadata := p.Config["metadata"].(map[string]any)
		for _, key := range []string{"fly_flyctl_version", "fly_release_id", "fly_release_version", "fly_bluegreen_deployment_tag", "fly_flyctl_bluegreen_launch_id"} {
			delete(metadata, key)
		}
	}
}

func groupOf(p post) string {
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

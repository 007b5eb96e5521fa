// Package infra has the Fly configuration of this repository's apps, and the tests of
// its GitHub workflow.
package infra

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A workflow is the part of .github/workflows/release.yml that the test checks.
type workflow struct {
	On struct {
		Push struct {
			Branches []string
		}
	}
	Permissions map[string]string
	Concurrency struct {
		Group            string
		CancelInProgress any `yaml:"cancel-in-progress"`
	}
	Jobs map[string]struct {
		Permissions map[string]string
		Steps       []struct {
			Uses, Run string
			Env       map[string]string
			With      map[string]any
		}
	}
}

func TestWorkflow_PushStartsRelease(t *testing.T) {
	b, err := os.ReadFile("../.github/workflows/release.yml")
	if err != nil {
		t.Fatal(err)
	}
	var w workflow
	if err := yaml.Unmarshal(b, &w); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.On.Push.Branches, []string{"staging", "production"}) {
		t.Errorf("the workflow runs for pushes to %v", w.On.Push.Branches)
	}
	if w.Concurrency.CancelInProgress != false {
		t.Error("a push cancels the job of an earlier release")
	}
	if !strings.Contains(w.Concurrency.Group, "github.sha") {
		t.Error("the concurrency group is shared by revisions: the next push cancels a waiting job")
	}
	if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
		t.Errorf("the permissions are %v", w.Permissions)
	}
	pinned := regexp.MustCompile(`^[\w-]+/[\w-]+@[0-9a-f]{40}$`)
	started := false
	for name, job := range w.Jobs {
		if job.Permissions != nil {
			t.Errorf("job %s has permissions of its own", name)
		}
		for _, step := range job.Steps {
			if step.Uses != "" && !pinned.MatchString(step.Uses) {
				t.Errorf("%s is not pinned to a commit", step.Uses)
			}
			if strings.Contains(step.Run, "${{") {
				t.Errorf("an expression is expanded into a script: %s", step.Run)
			}
			if strings.Contains(step.Run, `start --branch "$GITHUB_REF_NAME" --wait`) {
				started = step.Env["TEMPORAL_ADDRESS"] == "${{ secrets.TEMPORAL_ADDRESS }}"
			}
		}
	}
	if !started {
		t.Error("no step starts the release with TEMPORAL_ADDRESS from the secrets")
	}
}

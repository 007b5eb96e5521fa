package workflows_test

import (
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/microbima/release/worker"
)

// endings names the recorded histories by how their releases ended.
var endings = []string{
	"held-irreversible", "held-keep", "held-retry", "promoted", "promoted-bluegreen", "promoted-by-signal", "promoted-canary", "promoted-command",
	"promoted-images", "promoted-immediate", "promoted-no-room", "promoted-queued", "promoted-stale",
	"rolled-back-abort", "rolled-back-check", "stopped-aborted", "stopped-rejected", "stopped-scan", "stopped-test", "stopped-timeout", "stranded", "taken-back",
	"unchanged",
}

// TestReplay replays every history in testdata/history with the current code. A failure
// means that a running release would not continue after the program is replaced.
func TestReplay(t *testing.T) {
	replayer := sdkworker.NewWorkflowReplayer()
	worker.Register(replayer)
	logger := sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))
	for _, name := range endings {
		files := histories(t, name)
		if len(files) == 0 {
			t.Errorf("no history of %s", name)
		}
		for _, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
				history := readHistory(t, file)
				// A plan's hash covers the run ID: with another one no review would count.
				started := history.Events[0].GetWorkflowExecutionStartedEventAttributes()
				err := replayer.ReplayWorkflowHistoryWithOptions(logger, history, sdkworker.ReplayWorkflowHistoryOptions{
					OriginalExecution: workflow.Execution{ID: started.WorkflowId, RunID: started.OriginalExecutionRunId},
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Recorded histories are public: they contain no path, process or token of the machine
// that recorded them. (The recorder checks for its host name.)
func TestHistories_NoPrivateData(t *testing.T) {
	payload := regexp.MustCompile(`"data":"([^"]*)"`)
	private := regexp.MustCompile(`/(home|root|tmp|var|Users)/[\w./-]*|[0-9]+@[\w.-]+@|(Bearer|FlyV1|token=)\S*`)
	for _, file := range histories(t, "*") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range payload.FindAllSubmatch(text, -1) {
			data, err := base64.StdEncoding.DecodeString(string(m[1]))
			if err != nil {
				t.Fatal(err)
			}
			text = append(append(text, '\n'), data...)
		}
		if found := private.Find(text); found != nil {
			t.Errorf("%s contains %s", file, found)
		}
	}
}

func histories(t *testing.T, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "history", name+".[0-9]-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func readHistory(t *testing.T, file string) *historypb.History {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	history, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return history
}

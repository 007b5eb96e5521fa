package flytoml

import (
	"os"
	"testing"
)

// A file with old names is sent with current ones. Otherwise a user who gets it
// back from Fly would lose settings.
func TestDefinition_OldNames(t *testing.T) {
	doc, err := os.ReadFile("testdata/invalid/legacy/fly.toml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := mustParse(t, string(doc)).Definition()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"app":"shop","experimental":{"attached":{"secrets":{}},"auto_rollback":true},"kill_timeout":"5s",` +
		`"metrics":[{"path":"/metrics","port":9091}],"mounts":[{"destination":"data","source":"data"}],` +
		`"services":[{"concurrency":{"hard_limit":25,"soft_limit":20,"type":"requests"},"internal_port":8080,` +
		`"ports":[{"handlers":["http"],"port":80}],"protocol":"tcp","tcp_checks":[{"interval":"10s"}]}]}`
	if string(got) != want {
		t.Errorf("have %s\nwant %s", got, want)
	}
}

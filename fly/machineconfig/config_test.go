package machineconfig_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

// A plan neither changes a machine for facts that only a running machine has, nor leaves
// one alone whose config differs in any other way.
func TestRead_Fingerprints(t *testing.T) {
	const base = `{"image":"registry.fly.io/a@sha256:1","env":{"A":"1"},"mounts":[{"path":"/data","volume":"vol_1"}],"metadata":{"fly_process_group":"app"}}`
	for name, test := range map[string]struct {
		doc         string
		same, exact bool
	}{
		"the same document":               {base, true, true},
		"other white space and order":     {`{"env": {"A":"1"}, "metadata":{"fly_process_group":"app"}, "mounts":[{"volume":"vol_1","path":"/data"}], "image":"registry.fly.io/a@sha256:1"}`, true, true},
		"size and encryption of a volume": {strings.Replace(base, `"/data"`, `"/data","size_gb":3,"encrypted":true`, 1), true, true},
		"the release":                     {strings.Replace(base, `"app"}`, `"app","release_id":"r","release_revision":"c","release_machine":"m"}`, 1), true, false},
		"the Fly release":                 {strings.Replace(base, `"app"}`, `"app","fly_release_id":"f","fly_release_version":"7","fly_flyctl_version":"0.4"}`, 1), true, false},
		"the volume":                      {strings.Replace(base, "vol_1", "vol_2", 1), true, false},
		"the machine of a standby":        {strings.Replace(base, `"A":"1"}`, `"A":"1","FLY_STANDBY_FOR":"m1"},"standbys":["m1"]`, 1), true, false},
		"the repository of a digest":      {strings.Replace(base, "registry.fly.io/a", "docker.io/library/a", 1), true, false},
		"empty objects":                   {strings.Replace(base, `"env"`, `"services":[],"guest":{},"env"`, 1), true, false},
		"the digest":                      {strings.Replace(base, "sha256:1", "sha256:2", 1), false, false},
		"an env var":                      {strings.Replace(base, `"A":"1"`, `"A":"2"`, 1), false, false},
		"the type of a value":             {strings.Replace(base, `"A":"1"`, `"A":1`, 1), false, false},
		"another metadata key":            {strings.Replace(base, `"app"}`, `"app","team":"x"}`, 1), false, false},
		"the path of a mount":             {strings.Replace(base, "/data", "/other", 1), false, false},
		"no JSON":                         {`{"image":`, false, false},
		"no document":                     {"", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := machineconfig.Read([]byte(base)), machineconfig.Read([]byte(test.doc))
			if a.IsSame(b) != test.same || (a.Facts().ExactFingerprint == b.Facts().ExactFingerprint) != test.exact {
				t.Errorf("same is %t, want %t; exact is %t, want %t", a.IsSame(b), test.same, a.Facts().ExactFingerprint == b.Facts().ExactFingerprint, test.exact)
			}
		})
	}
}

// The facts are those of Fly's documentation, with its defaults.
func TestRead_Facts(t *testing.T) {
	origin := `"metadata":{"release_id":"release/shop/1","release_revision":"c0ffee","release_machine":"app-1","fly_release_id":"f","fly_release_version":"7","fly_flyctl_version":"0.4"}`
	for name, test := range map[string]struct {
		doc  string
		want release.ConfigFacts
	}{
		"nothing":                     {`{}`, release.ConfigFacts{}},
		"checks":                      {`{"checks":{"a":{"port":1},"b":{}},"services":[{"internal_port":80,"autostart":false,"checks":[{},{}]}]}`, release.ConfigFacts{WantedChecks: 4, HasServices: true}},
		"a service without one":       {`{"services":[{"protocol":"tcp","internal_port":80,"autostart":false}]}`, release.ConfigFacts{HasServices: true, UncheckedPorts: []int{80}}},
		"a port with one":             {`{"checks":{"a":{"port":80}},"services":[{"internal_port":80,"autostart":false}]}`, release.ConfigFacts{WantedChecks: 1, HasServices: true}},
		"a port of UDP":               {`{"services":[{"protocol":"udp","internal_port":53,"autostart":false}]}`, release.ConfigFacts{HasServices: true}},
		"autostart by default":        {`{"services":[{}]}`, release.ConfigFacts{HasServices: true, Autostart: true}},
		"autostop":                    {`{"services":[{"autostart":false,"autostop":"suspend"}]}`, release.ConfigFacts{HasServices: true, Autostop: true}},
		"autostop in its form before": {`{"services":[{"autostart":false,"autostop":true}]}`, release.ConfigFacts{HasServices: true, Autostop: true}},
		"no autostop":                 {`{"services":[{"autostart":false,"autostop":"off"}]}`, release.ConfigFacts{HasServices: true}},
		"a standby":                   {`{"standbys":["m1","m2"]}`, release.ConfigFacts{StandbyFor: "m1"}},
		"a restart policy":            {`{"restart":{"policy":"no"}}`, release.ConfigFacts{RestartPolicy: "no"}},
		"a field of another type":     {`{"restart":[],"standbys":["m1"]}`, release.ConfigFacts{StandbyFor: "m1"}},
		"an origin":                   {`{` + origin + `}`, release.ConfigFacts{Origin: release.Origin{Release: "release/shop/1", Revision: "c0ffee", Machine: "app-1", FlyRelease: "f", FlyVersion: "7", Client: "0.4"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := *machineconfig.Read([]byte(test.doc)).Facts()
			got.Fingerprint, got.ExactFingerprint = "", ""
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Facts survive the way through Temporal, which escapes HTML in documents.
func TestRead_AfterRoundTrip(t *testing.T) {
	before := machineconfig.Read([]byte(`{"init":{"cmd":["sh","-c","a && b > c"]}}`))
	doc, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	var after release.Config
	if err := json.Unmarshal(doc, &after); err != nil {
		t.Fatal(err)
	}
	if again := machineconfig.Read(after.Doc); !before.IsSame(after) || !before.IsSame(again) || again.Facts().ExactFingerprint != before.Facts().ExactFingerprint {
		t.Errorf("before %+v, after %+v, read again %+v", before, after, again)
	}
}

// A reader returns what Read returns, for more documents than it keeps and while others
// use it.
func TestReader_Concurrent(t *testing.T) {
	var reader machineconfig.Reader
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 6000 {
				doc := fmt.Appendf(nil, `{"env":{"N":"%d"}}`, i)
				if got := reader.Read(doc); !got.IsSame(machineconfig.Read(doc)) {
					t.Errorf("%s has the facts of %s", doc, got.Doc)
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkRead(b *testing.B) {
	doc := fmt.Appendf(nil, `{"image":"registry.fly.io/a@sha256:1","env":{"LONG":"%02000d"},"services":[{"internal_port":80,"checks":[{"type":"http"}]}],"metadata":{"fly_process_group":"app"}}`, 1)
	b.Run("uncached", func(b *testing.B) {
		for b.Loop() {
			machineconfig.Read(doc)
		}
	})
	b.Run("cached", func(b *testing.B) {
		var reader machineconfig.Reader
		for b.Loop() {
			reader.Read(doc)
		}
	})
}

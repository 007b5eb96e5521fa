package config

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/microbima/release/fly/machineconfig"
	"github.com/microbima/release/release"
)

const (
	v1 release.Image = "registry.fly.io/shop@sha256:1111"
	v2 release.Image = "registry.fly.io/shop@sha256:2222"
)

// project returns a project with the app api in staging, whose fly.toml is given.
func project(t *testing.T, more, flyToml string) (*release.Project, release.TargetFile) {
	t.Helper()
	p, _, err := Load(fstest.MapFS{
		File: {Data: []byte(`project = "shop"
[apps.api]
needs = ["db"]
[apps.db]
[environments.staging]
canary = "2m"
` + more)},
		"infra/fly/api/staging/fly.toml": {Data: []byte("app = \"shop-api\"\nprimary_region = \"fra\"\n" + flyToml)},
		"infra/fly/api/staging/motd":     {Data: []byte("hello")},
		"infra/fly/db/staging/fly.toml":  {Data: []byte("app = \"shop-db\"")},
		"infra/fly/api/Dockerfile":       {Data: []byte("FROM scratch")},
		"infra/fly/db/Dockerfile":        {Data: []byte("FROM scratch")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, p.Environments[0].Targets[0]
}

func spec(t *testing.T, flyToml string, machines ...release.Machine) release.Spec {
	t.Helper()
	p, target := project(t, "", flyToml)
	s, err := Spec(p, target, v2, release.State{Target: target.Target, Machines: machines})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A first rollout creates two machines, or one and a standby, or one with a volume.
func TestSpec_NewMachines(t *testing.T) {
	got := spec(t, `
[processes]
app = "serve"
cron = "cron"
db = "db"
[http_service]
internal_port = 8080
processes = ["app"]
[mounts]
source = "data"
destination = "/data"
processes = ["db"]
`)
	type group struct {
		Name     string
		Standbys []bool
	}
	var groups []group
	for _, g := range got.Groups {
		machines := group{Name: g.Name}
		for _, m := range g.New {
			machines.Standbys = append(machines.Standbys, m.Standby)
			if m.Region != "fra" {
				t.Errorf("a machine of %s goes to %q", g.Name, m.Region)
			}
		}
		groups = append(groups, machines)
	}
	want := []group{{"app", []bool{false, false}}, {"cron", []bool{false, true}}, {"db", []bool{false}}}
	if diff := cmp.Diff(want, groups); diff != "" {
		t.Error(diff)
	}
}

func TestSpec(t *testing.T) {
	got := spec(t, `
[deploy]
strategy = "canary"
max_unavailable = 2
wait_timeout = "90s"
[http_service]
internal_port = 8080
[[http_service.checks]]
path = "/health"
`)
	got.Groups = nil
	want := release.Spec{
		Target: release.Target{App: "api", Environment: "staging"}, FlyApp: "shop-api", Image: v2, Level: 1,
		Strategy: release.Canary, MaxUnavailable: 2, Wait: release.Duration(90e9), Canary: release.Duration(120e9),
		Probe: &release.Probe{Path: "/health", Setting: "http_service.checks in infra/fly/api/staging/fly.toml"}, Addresses: []string{"v6", "shared_v4"},
		Definition: json.RawMessage(`{"app":"shop-api","deploy":{"max_unavailable":2,"strategy":"canary","wait_timeout":"1m30s"},"http_service":{"checks":[{"path":"/health"}],"internal_port":8080},"primary_region":"fra"}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A probe is a check of fly.toml or the probe of release.toml, with its method and
// headers; without either there is no probe.
func TestSpec_Probe(t *testing.T) {
	const service, file = "[http_service]\ninternal_port = 8080\n", " in infra/fly/api/staging/fly.toml"
	for name, test := range map[string]struct {
		toml string
		want *release.Probe
	}{
		"no service":                   {"", nil},
		"a service without a check":    {service, nil},
		"a TCP check":                  {"[[services]]\ninternal_port = 8080\nprotocol = \"tcp\"\n[[services.ports]]\nport = 443\nhandlers = [\"tls\", \"http\"]\n[[services.tcp_checks]]\n", nil},
		"a check on a port of its own": {service + "[checks.metrics]\ntype = \"http\"\nport = 9090\npath = \"/metrics\"\n", nil},
		"a check of http_service": {
			service + "[[http_service.checks]]\npath = \"/up\"\nmethod = \"HEAD\"\n[http_service.checks.headers]\nX-Forwarded-Proto = \"https\"\n",
			&release.Probe{Path: "/up", Method: "HEAD", Headers: map[string][]string{"X-Forwarded-Proto": {"https"}}, Setting: "http_service.checks" + file},
		},
		"a check at the top of the same port": {
			service + "[checks.alive]\ntype = \"http\"\npath = \"/alive\"\n", &release.Probe{Path: "/alive", Setting: "checks.alive" + file},
		},
		"a service without TLS": {
			"[[services]]\ninternal_port = 8080\nprotocol = \"tcp\"\n[[services.ports]]\nport = 80\nhandlers = [\"http\"]\n[[services.http_checks]]\npath = \"/x\"\n",
			&release.Probe{Path: "/x", Scheme: "http", Setting: "services.http_checks" + file},
		},
		"a service that is no web server": {
			"[[services]]\ninternal_port = 5432\nprotocol = \"tcp\"\n[[services.ports]]\nport = 5432\n[[services.http_checks]]\npath = \"/x\"\n", nil,
		},
	} {
		if diff := cmp.Diff(test.want, spec(t, test.toml).Probe); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	p, target := project(t, "", service)
	for i := range p.Apps {
		p.Apps[i].Probe = "/deep"
	}
	want := &release.Probe{Path: "/deep", Setting: "probe of [apps.api] in release.toml"}
	if s, err := Spec(p, target, v2, release.State{}); err != nil || cmp.Diff(want, s.Probe) != "" {
		t.Errorf("the probe of release.toml: %v, %v", s.Probe, err)
	}
	for i := range p.Apps {
		p.Apps[i].Addresses = release.ReachFlycast
	}
	if s, err := Spec(p, target, v2, release.State{}); err != nil || s.Probe != nil {
		t.Errorf("a private app is probed: %v, %v", s.Probe, err)
	}
}

// A machine that runs the wanted config keeps it, so that the plan leaves it alone.
func TestSpec_Unchanged(t *testing.T) {
	const toml = "[http_service]\ninternal_port = 8080\n[[files]]\nguest_path = \"/etc/motd\"\nlocal_path = \"motd\"\n"
	first := spec(t, toml).Groups[0].New[0]
	if !strings.Contains(string(first.Config.Doc), "aGVsbG8=") {
		t.Errorf("the local file is not in the machine: %s", first.Config.Doc)
	}
	again := spec(t, toml, release.Machine{ID: "m1", Group: "app", Config: first.Config})
	if len(again.Groups[0].New) != 0 {
		t.Error("a group with machines gets more")
	}
	if !first.Config.IsSame(again.Groups[0].Machines["m1"]) {
		t.Errorf("an unchanged machine is changed:\n%s\n%s", first.Config.Doc, again.Groups[0].Machines["m1"].Doc)
	}
	other := spec(t, toml+"[env]\nA = \"1\"\n", release.Machine{ID: "m1", Group: "app", Config: first.Config})
	if first.Config.IsSame(other.Groups[0].Machines["m1"]) {
		t.Error("a change of fly.toml changes nothing")
	}
}

// A spec that cannot be reached is an error of planning, before any change, and says
// what to do.
func TestSpec_MissingVolume(t *testing.T) {
	const mounts = "[mounts]\nsource = \"data\"\ndestination = \"/data\"\n"
	was := release.Machine{ID: "m1", Group: "app", Region: "fra", Config: machineconfig.Read([]byte(`{}`))}
	for name, tc := range map[string]struct {
		toml  string
		state release.State
		want  string
	}{
		"no volume is free": {
			toml:  mounts,
			state: release.State{Machines: []release.Machine{was}, Volumes: []release.Volume{{ID: "v1", Name: "data", Region: "ams", Free: true}}},
			want:  "needs 1 free volume(s) data in fra, and there are 0",
		},
		"its volume is on an unreachable host": {
			toml:  mounts,
			state: release.State{Machines: []release.Machine{{ID: "m1", Group: "app", Host: "unreachable"}}},
			want:  "fly machine destroy --force m1",
		},
	} {
		p, target := project(t, "", tc.toml)
		if _, err := Spec(p, target, v1, tc.state); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %q", name, err, tc.want)
		}
	}
}

// A machine that cannot take its config is replaced if no data is lost.
func TestSpec_ReplacedMachines(t *testing.T) {
	const mounts = "[mounts]\nsource = \"data\"\ndestination = \"/data\"\n"
	was := release.Machine{ID: "m1", Group: "app", Region: "fra", Config: machineconfig.Read([]byte(`{}`))}
	for name, tc := range map[string]struct {
		toml  string
		state release.State
	}{
		"it gains a volume that is free":            {mounts, release.State{Machines: []release.Machine{was}, Volumes: []release.Volume{{ID: "v1", Name: "data", Region: "fra", Free: true}}}},
		"it gains a volume that is made":            {mounts + "initial_size = \"2GB\"\n", release.State{Machines: []release.Machine{was}}},
		"its host is unreachable, without a volume": {"", release.State{Machines: []release.Machine{{ID: "m1", Group: "app", Host: "unreachable"}}}},
	} {
		p, target := project(t, "", tc.toml)
		s, err := Spec(p, target, v1, tc.state)
		if err != nil || s.Groups[0].Replace["m1"] == "" || s.Groups[0].Machines["m1"].IsZero() {
			t.Errorf("%s: %v, %+v; want m1 to be replaced", name, err, s.Groups)
		}
	}
}

// An app with addresses = "flycast" or "none" gets no public address.
func TestSpec_Addresses(t *testing.T) {
	const serves = "[http_service]\ninternal_port = 8080\n"
	for setting, want := range map[string][]string{
		"":                      {"v6", "shared_v4"},
		`addresses = "public"`:  {"v6", "shared_v4"},
		`addresses = "flycast"`: {"private_v6"},
		`addresses = "none"`:    nil,
	} {
		p, _, err := Load(fstest.MapFS{
			File:                             {Data: []byte("project = \"shop\"\n[apps.api]\n" + setting + "\n[environments.staging]\n")},
			"infra/fly/api/staging/fly.toml": {Data: []byte("app = \"shop-api\"\nprimary_region = \"fra\"\n" + serves)},
			"infra/fly/api/Dockerfile":       {Data: []byte("FROM scratch")},
		})
		if err != nil {
			t.Fatal(err)
		}
		target := p.Environments[0].Targets[0]
		s, err := Spec(p, target, v2, release.State{Target: target.Target})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, s.Addresses); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", setting, diff)
		}
	}
}

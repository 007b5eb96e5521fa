// Package compose has the files that docker-compose.yml mounts, and its tests.
package compose

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"

	"github.com/microbima/release/release"
)

func loadProject(t *testing.T, env ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../../docker-compose.yml"}, cli.WithWorkingDirectory("../.."), cli.WithEnv(env))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestPorts_PublishedOnLoopbackOnly(t *testing.T) {
	published := 0
	for _, service := range loadProject(t).Services {
		for _, port := range service.Ports {
			published++
			if ip := net.ParseIP(port.HostIP); ip == nil || !ip.IsLoopback() {
				t.Errorf("%s publishes port %s on %q", service.Name, port.Published, port.HostIP)
			}
		}
		if service.Privileged || service.NetworkMode == "host" {
			t.Errorf("%s has privileges on the host", service.Name)
		}
	}
	if published == 0 {
		t.Error("no port of Temporal is published")
	}
}

func TestNetworks_DatabaseOnlyForTemporal(t *testing.T) {
	project := loadProject(t)
	if !project.Networks["database"].Internal {
		t.Error("the database's network is not internal")
	}
	for _, service := range project.Services {
		_, on := service.Networks["database"]
		if want := slices.Contains([]string{"postgresql", "temporal", "temporal-schema"}, service.Name); on != want {
			t.Errorf("%s on the database's network: %v", service.Name, on)
		}
	}
}

func TestDependencies_StartOrder(t *testing.T) {
	project := loadProject(t)
	for name, want := range map[string]map[string]string{
		"temporal-schema":    {"postgresql": "service_healthy"},
		"temporal":           {"postgresql": "service_healthy", "temporal-schema": "service_completed_successfully"},
		"temporal-namespace": {"temporal": "service_healthy"},
		"temporal-ui":        {"temporal": "service_healthy"},
		"worker":             {"temporal": "service_healthy", "temporal-namespace": "service_completed_successfully", "buildkit": "service_healthy"},
	} {
		service, err := project.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		for on, condition := range want {
			if got := service.DependsOn[on].Condition; got != condition {
				t.Errorf("%s waits for %s: %q; want %q", name, on, got, condition)
			}
		}
		// A dependency that must be healthy needs a health check.
		for on, dependency := range service.DependsOn {
			if dependency.Condition == "service_healthy" && project.Services[on].HealthCheck == nil {
				t.Errorf("%s waits for the health of %s, which has no check", name, on)
			}
		}
	}
}

// Commands of a Dockerfile must not reach Temporal: any client of it can approve.
func TestNetworks_BuildKitOnlyForWorker(t *testing.T) {
	project := loadProject(t)
	buildkit, worker := project.Services["buildkit"], project.Services["worker"]
	for network := range buildkit.Networks {
		for name, service := range project.Services {
			if _, on := service.Networks[network]; on && name != "buildkit" && name != "worker" {
				t.Errorf("BuildKit shares network %s with %s", network, name)
			}
		}
	}
	_, port, ok := strings.Cut(*worker.Environment["BUILDKIT_HOST"], "tcp://buildkit:")
	if !ok || !slices.Contains(buildkit.Command, "tcp://0.0.0.0:"+port) {
		t.Errorf("BUILDKIT_HOST of the worker is %s, and BuildKit listens by %q", *worker.Environment["BUILDKIT_HOST"], buildkit.Command)
	}
}

// BuildKit has the version of its client in go.mod.
func TestBuildKit_VersionOfGoMod(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	_, tag, _ := strings.Cut(loadProject(t).Services["buildkit"].Image, ":")
	if !strings.Contains(string(mod), "github.com/moby/buildkit "+strings.TrimSuffix(tag, "-rootless")+"\n") {
		t.Errorf("BuildKit has version %s, and go.mod another one", tag)
	}
}

func TestVolumes_DataIsOnNamedVolumes(t *testing.T) {
	project := loadProject(t)
	for name, path := range map[string]string{"postgresql": "/var/lib/postgresql/data", "worker": "/home/release"} {
		mounts := project.Services[name].Volumes
		i := slices.IndexFunc(mounts, func(v types.ServiceVolumeConfig) bool { return v.Target == path })
		if i < 0 || mounts[i].Type != "volume" || project.Volumes[mounts[i].Source].Name == "" {
			t.Errorf("%s of %s is on no named volume: %+v", path, name, mounts)
		}
	}
}

func TestImages_PinnedAndMountsExist(t *testing.T) {
	project := loadProject(t)
	for _, service := range project.Services {
		_, tag, _ := strings.Cut(service.Image, ":")
		if service.Build == nil && (tag == "" || tag == "latest") {
			t.Errorf("%s runs %q, which is not a pinned version", service.Name, service.Image)
		}
		for _, v := range service.Volumes {
			if v.Type != "bind" {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
				t.Errorf("%s mounts %s: %v, read-only: %v", service.Name, v.Source, err, v.ReadOnly)
			}
		}
	}
	if server, tools := project.Services["temporal"].Image, project.Services["temporal-schema"].Image; server[strings.Index(server, ":"):] != tools[strings.Index(tools, ":"):] {
		t.Errorf("the schema of %s is created by %s", server, tools)
	}
}

func TestDynamicConfig_IsMounted(t *testing.T) {
	temporal := loadProject(t).Services["temporal"]
	path := *temporal.Environment["DYNAMIC_CONFIG_FILE_PATH"]
	for _, v := range temporal.Volumes {
		if rest, ok := strings.CutPrefix(path, v.Target); ok {
			path = filepath.Join(v.Source, rest)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("the dynamic config is not mounted: %v", err)
	}
	var settings map[string][]struct{ Value any }
	if err := yaml.Unmarshal(b, &settings); err != nil || len(settings) == 0 {
		t.Errorf("%s: %v", path, err)
	}
}

func TestSecrets_OnlyWhereNeeded(t *testing.T) {
	project := loadProject(t, "FLY_API_TOKEN=fm2_x", "TEMPORAL_DB_PASSWORD=other")
	for _, service := range project.Services {
		for key, v := range service.Environment {
			if v != nil && strings.Contains(*v, "fm2_x") && service.Name != "worker" {
				t.Errorf("%s gets the Fly token as %s", service.Name, key)
			}
			if strings.Contains(key, "PASSWORD") || key == "POSTGRES_PWD" {
				if v == nil || *v != "other" {
					t.Errorf("%s does not get the password as %s", service.Name, key)
				}
			}
		}
	}
}

// fakeCommand puts a fake command into PATH. It appends the arguments of each call to
// the returned file.
func fakeCommand(t *testing.T, name, script string) (calls string) {
	t.Helper()
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	script = "#!/bin/sh\necho \"$*\" >>" + calls + "\nstate=" + dir + "\n" + script
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return calls
}

// runScript runs a script and returns the calls of its fake command.
func runScript(t *testing.T, calls, script string) (string, error) {
	t.Helper()
	if err := os.RemoveAll(calls); err != nil {
		t.Fatal(err)
	}
	out, failed := exec.Command("/bin/sh", script).CombinedOutput()
	b, err := os.ReadFile(calls)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s%s", b, out)
	return string(b), failed
}

// fakeTemporal is a temporal command for namespace.sh: it stores one namespace and its
// search attributes.
const fakeTemporal = `
case "$*" in
"operator namespace describe --namespace releases") test -e $state/namespace ;;
"operator namespace create --namespace releases --retention 8760h"*) touch $state/namespace ;;
"operator search-attribute list --namespace releases")
	test -e $state/namespace && echo "         Name           Type" && touch $state/attributes && cat $state/attributes ;;
"operator search-attribute create --namespace releases --name "*" --type Keyword") echo "  $7  Keyword" >>$state/attributes ;;
*) echo "unknown command: $*" >&2; exit 1 ;;
esac
`

func TestNamespaceScript_RunsTwice(t *testing.T) {
	t.Setenv("TEMPORAL_ADDRESS", "temporal:7233")
	t.Setenv("TEMPORAL_NAMESPACE", "releases")
	t.Setenv("TRIES", "1")
	calls := fakeCommand(t, "temporal", fakeTemporal)
	called, err := runScript(t, calls, "scripts/namespace.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, attribute := range []string{
		release.AttrProject, release.AttrRevision, release.AttrEnvironment, release.AttrPhase, release.AttrOutcome,
	} {
		if !strings.Contains(called, "create --namespace releases --name "+attribute+" --type Keyword") {
			t.Errorf("%s is not registered: no release could start", attribute)
		}
	}
	called, err = runScript(t, calls, "scripts/namespace.sh")
	if err != nil || strings.Contains(called, "create") {
		t.Errorf("the second run: %v; it called %s", err, called)
	}
}

func TestNamespaceScript_AttributeOfOtherType(t *testing.T) {
	t.Setenv("TEMPORAL_ADDRESS", "temporal:7233")
	t.Setenv("TEMPORAL_NAMESPACE", "releases")
	t.Setenv("TRIES", "1")
	calls := fakeCommand(t, "temporal", "touch $state/namespace; echo '  ReleasePhase  Text' >$state/attributes\n"+fakeTemporal)
	if _, err := runScript(t, calls, "scripts/namespace.sh"); err == nil {
		t.Error("an attribute of another type is no error")
	}
}

func TestNamespaceScript_ServerUnreachable(t *testing.T) {
	t.Setenv("TEMPORAL_ADDRESS", "temporal:7233")
	t.Setenv("TRIES", "1")
	if _, err := runScript(t, fakeCommand(t, "temporal", "exit 1"), "scripts/namespace.sh"); err == nil {
		t.Error("an unreachable server is no error")
	}
}

func TestSchemaScript_BothDatabases(t *testing.T) {
	calls := fakeCommand(t, "temporal-sql-tool", "")
	called, err := runScript(t, calls, "scripts/schema.sh")
	if err != nil {
		t.Fatal(err)
	}
	want := `--database temporal create-database
--database temporal setup-schema --version 0.0
--database temporal update-schema --schema-dir /etc/temporal/schema/postgresql/v12/temporal/versioned
--database temporal_visibility create-database
--database temporal_visibility setup-schema --version 0.0
--database temporal_visibility update-schema --schema-dir /etc/temporal/schema/postgresql/v12/visibility/versioned
`
	if called != want {
		t.Errorf("got\n%swant\n%s", called, want)
	}
	if _, err := runScript(t, fakeCommand(t, "temporal-sql-tool", "exit 1"), "scripts/schema.sh"); err == nil {
		t.Error("an unreachable database is no error")
	}
}

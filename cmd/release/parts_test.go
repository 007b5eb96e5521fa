package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

func TestPick(t *testing.T) {
	ids := []string{
		"release/shop/4f2d1c0b9a8e", "release/shop/4f2d1c0b9a8e", "release/shop/4fff00000000", "release/other/4f2d99999999",
		"release/shop/rollback-production", "rollout/shop/production", "release/other/abcdef000000",
	}
	for _, c := range []struct{ ref, project, want string }{
		{"4f2", "shop", "release/shop/4f2d1c0b9a8e"},
		{"4f2d1c0b9a8e7d6c5b4a39281706f5e4d3c2b1a0", "shop", "release/shop/4f2d1c0b9a8e"}, // a full commit
		{"4f2d9", "shop", "release/other/4f2d99999999"},                                   // only another project has it
		{"abc", "", "release/other/abcdef000000"},
		{"rollback", "shop", "release/shop/rollback-production"},
		{"rollout/shop", "shop", "rollout/shop/production"},
		{"release/other/a", "shop", "release/other/abcdef000000"},
		{"production", "shop", ""}, // a rollout is nobody's release
		{"zzz", "shop", ""},
		{"", "", "many"},
		{"4f", "shop", "many"},
		{"4f2d", "", "many"},
	} {
		got, err := pick(c.ref, c.project, ids)
		if err != nil {
			got = "many"
			if !strings.Contains(err.Error(), "release/") {
				t.Errorf("%q: the candidates are not named: %v", c.ref, err)
			}
		}
		if got != c.want {
			t.Errorf("%q in %q is %q, want %q", c.ref, c.project, got, c.want)
		}
	}
}

// A release dev that was killed must not send commands to where nobody is.
func TestDevFile(t *testing.T) {
	state := t.TempDir()
	e := &env{environ: []string{"RELEASE_STATE_DIR=" + state, "HOME=" + state, "TEMPORAL_CONFIG_FILE=" + filepath.Join(state, "none")}}
	if e.readDevFile() != nil {
		t.Error("there is no file, and it was read")
	}
	dev := devFile{Temporal: "127.0.0.1:4711", UI: "http://127.0.0.1:4712", Fly: "http://127.0.0.1:4713", Registry: "127.0.0.1:4714", PID: os.Getpid(), Token: "secret"}
	remove, err := e.writeDevFile(dev)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.readDevFile(); got == nil || *got != dev {
		t.Errorf("read %+v", got)
	}
	info, err := os.Stat(filepath.Join(state, devFileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the token: %v %v", info.Mode(), err)
	}
	if o, err := e.temporalOptions(); err != nil || o.HostPort != dev.Temporal {
		t.Errorf("Temporal is at %q, %v", o.HostPort, err)
	}
	if p := e.fly(); p.FlapsURL != dev.Fly || p.Token != "secret" || p.registry != dev.Registry {
		t.Errorf("Fly is at %q", p.FlapsURL)
	}

	explicit := *e
	explicit.environ = append(explicit.environ, "TEMPORAL_ADDRESS=temporal.example.com:7233")
	if o, err := explicit.temporalOptions(); err != nil || o.HostPort != "temporal.example.com:7233" {
		t.Errorf("TEMPORAL_ADDRESS is not obeyed: %q, %v", o.HostPort, err)
	}
	if p := explicit.fly(); p.FlapsURL != "" {
		t.Error("with another Temporal, the laptop's Fly is used")
	}
	explicit.environ = append(e.environ, "FLY_API_TOKEN=real")
	if p := explicit.fly(); p.FlapsURL != "" || p.Token != "real" {
		t.Error("FLY_API_TOKEN is not obeyed")
	}

	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Skip("this machine has no program called true")
	}
	dev.PID = ended.Process.Pid
	if _, err := e.writeDevFile(dev); err != nil {
		t.Fatal(err)
	}
	if e.readDevFile() != nil {
		t.Error("the file of a dead process counts")
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if err := remove(); err != nil {
		t.Errorf("removing it twice: %v", err)
	}
}

// A password in a clone's address would be kept in histories for a year.
func TestAddressesAreRecordedWithoutPassword(t *testing.T) {
	for address, want := range map[string]string{
		"https://ada:secret@example.com/shop.git": "https://example.com/shop.git",
		"https://token@example.com/shop.git":      "https://example.com/shop.git",
		"ssh://git@example.com/shop.git":          "ssh://git@example.com/shop.git",
		"ssh://git:secret@example.com/shop.git":   "ssh://git@example.com/shop.git",
		"https://ada:se%cret@example.com/a.git":   "https://example.com/a.git",
		"git@example.com:shop.git":                "git@example.com:shop.git",
		"/srv/shop":                               "/srv/shop",
	} {
		if got := withoutPassword(address); got != want {
			t.Errorf("%s is recorded as %s", address, got)
		}
	}
}

func TestPage(t *testing.T) {
	for _, c := range []struct{ address, ui, want string }{
		{"127.0.0.1:7233", "", "http://127.0.0.1:8233/namespaces/default/workflows/release%2Fshop%2F4f2d/run"},
		{"shop.tmprl.cloud:7233", "", "https://cloud.temporal.io/namespaces/default/workflows/release%2Fshop%2F4f2d/run"},
		{"localhost:7233", "", "http://127.0.0.1:8233/namespaces/default/workflows/release%2Fshop%2F4f2d/run"},
		{"10.0.0.1:7233", "", ""},
		{"127.0.0.1:17233", "", ""},
		{"temporal:7233", "", ""},
		{"10.0.0.1:7233", "temporal.example.com", "http://temporal.example.com/namespaces/default/workflows/release%2Fshop%2F4f2d/run"},
	} {
		s := &server{env: &env{environ: []string{"TEMPORAL_UI_ADDRESS=" + c.ui}}, address: c.address, namespace: "default"}
		if got := s.page("release/shop/4f2d", "run"); got != c.want {
			t.Errorf("%s: %s, want %s", c.address, got, c.want)
		}
	}
}

// Every command says what it is, at length and by example.
func TestManual(t *testing.T) {
	root := (&env{}).root()
	for _, c := range root.Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Short == "" || len(c.Long) < 100 || !strings.Contains(c.Example, "release "+c.Name()) {
			t.Errorf("release %s lacks a manual", c.Name())
		}
		if c.GroupID == "" {
			t.Errorf("release %s is in no group", c.Name())
		}
	}
}

func TestExitCodes(t *testing.T) {
	for want, outcomes := range map[int][]release.Outcome{
		0: {release.Promoted, release.Unchanged}, 1: {release.Stopped}, 3: {release.RolledBack}, 5: {release.Kept, ""},
	} {
		for _, o := range outcomes {
			if got := code(o); got != want {
				t.Errorf("%q is exit code %d, want %d", o, got, want)
			}
		}
	}
}

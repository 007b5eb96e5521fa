package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Commands do not connect to the addresses of a killed release dev.
func TestReadDevFile_KilledDev(t *testing.T) {
	state := t.TempDir()
	e := &World{Env: Environ{"RELEASE_STATE_DIR=" + state, "HOME=" + state, "TEMPORAL_CONFIG_FILE=" + filepath.Join(state, "none")}}
	if ReadDevFile(e.Env) != nil {
		t.Error("there is no file, and it was read")
	}
	dev := DevFile{Temporal: "127.0.0.1:4711", UI: "http://127.0.0.1:4712", Fly: "http://127.0.0.1:4713", Registry: "127.0.0.1:4714", PID: os.Getpid(), Token: "secret"}
	remove, err := WriteDevFile(e.Env, dev)
	if err != nil {
		t.Fatal(err)
	}
	if got := ReadDevFile(e.Env); got == nil || *got != dev {
		t.Errorf("read %+v", got)
	}
	info, err := os.Stat(filepath.Join(state, DevFileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the token: %v %v", info.Mode(), err)
	}
	if o, err := ClientOptions(e); err != nil || o.Temporal.HostPort != dev.Temporal {
		t.Errorf("Temporal is at %q, %v", o.Temporal.HostPort, err)
	}
	if p := findPlatform(e); p.FlapsURL != dev.Fly || p.Token != "secret" || p.Registry != dev.Registry {
		t.Errorf("Fly is at %q", p.FlapsURL)
	}

	explicit := *e
	explicit.Env = append(explicit.Env, "TEMPORAL_ADDRESS=temporal.example.com:7233")
	if o, err := ClientOptions(&explicit); err != nil || o.Temporal.HostPort != "temporal.example.com:7233" {
		t.Errorf("TEMPORAL_ADDRESS is not obeyed: %q, %v", o.Temporal.HostPort, err)
	}
	if p := findPlatform(&explicit); p.FlapsURL != "" {
		t.Error("with another Temporal, the Fly of release dev is used")
	}
	explicit.Env = append(e.Env, "FLY_API_TOKEN=real")
	if p := findPlatform(&explicit); p.FlapsURL != "" || p.Token != "real" {
		t.Error("FLY_API_TOKEN is not obeyed")
	}

	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Skip("this machine has no program called true")
	}
	dev.PID = ended.Process.Pid
	if _, err := WriteDevFile(e.Env, dev); err != nil {
		t.Fatal(err)
	}
	if ReadDevFile(e.Env) != nil {
		t.Error("the file of a dead process counts")
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if err := remove(); err != nil {
		t.Errorf("removing it twice: %v", err)
	}
}

//go:build unix

package localrunner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/microbima/release/fly/flysim"
)

func TestStart_Environment(t *testing.T) {
	t.Setenv("FLY_API_TOKEN", "fm2_secret")
	runner := openRunner(t, t.TempDir())
	image := pushServer(t, runner)
	p := startAndWait(t, runner, "m1", image, map[string]string{
		"LOG_LEVEL":    "debug",
		"PORT":         "8080",
		"HOST":         "0.0.0.0",
		"TOKEN":        "overridden by the secret",
		"INTERNAL_API": "http://ord.internal-api.internal:8080/v1",
		"BOTH":         "http://a-1.flycast,http://b.internal",
		"OTHER":        "http://api.internal.example.com and http://_api.internal:4280",
	})
	_, body := httpGet(t, "http://"+p.Addr(8080)+"/env")
	var env []string
	if err := json.Unmarshal([]byte(body), &env); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(runner.dir, "images", strings.TrimPrefix(image[strings.Index(image, "@"):], "@sha256:"), "root")
	_, port, _ := net.SplitHostPort(p.Addr(8080))
	want := map[string]string{
		"LOG_LEVEL":             "debug",
		"PORT":                  port,
		"HOST":                  "127.0.0.1",
		"TOKEN":                 "s3cret",
		"INTERNAL_API":          runner.URL("internal-api") + "/v1",
		"BOTH":                  runner.URL("a-1") + "," + runner.URL("b"),
		"OTHER":                 "http://api.internal.example.com and http://_api.internal:4280",
		"DATA":                  root + "/app/data",
		"PATH":                  root + "/app:/usr/bin",
		"FLY_APP_NAME":          "shop",
		"FLY_MACHINE_ID":        "m1",
		"FLY_ALLOC_ID":          "m1",
		"FLY_MACHINE_VERSION":   "01V",
		"FLY_REGION":            "ord",
		"FLY_PROCESS_GROUP":     "web",
		"FLY_IMAGE_REF":         image,
		"FLY_PRIVATE_IP":        "127.0.0.1",
		"FLY_VM_MEMORY_MB":      "512",
		"LOCALRUNNER_TEST_ROLE": "server",
		"FLYSIM_RUNNER":         runner.dir,
	}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case name == "HOME" || name == "TMPDIR":
			if !strings.HasPrefix(value, filepath.Join(runner.dir, "scratch")) {
				t.Errorf("%s is %s, which other machines share", name, value)
			}
		case want[name] != value:
			t.Errorf("%s is %q, want %q", name, value, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s is not set", name)
	}
	if _, dir := httpGet(t, "http://"+p.Addr(8080)+"/dir"); dir != root+"/app" {
		t.Errorf("runs in %s, want the image's working directory", dir)
	}
}

func TestStart_CommandLine(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	image := pushServer(t, runner)
	root := filepath.Join(runner.dir, "images", strings.TrimPrefix(image[strings.Index(image, "@"):], "@sha256:"), "root")
	for init, want := range map[string][]string{
		`{}`:                                    {root + "/app/server"},
		`{"cmd":["a","b"]}`:                     {root + "/app/server", "a", "b"},
		`{"entrypoint":["server"],"cmd":["a"]}`: {"server", "a"},
		`{"exec":["./server","/app/data/motd","/no/such"],"cmd":["a"]}`: {"./server", root + "/app/data/motd", "/no/such"},
	} {
		p, err := runner.Start(t.Context(), flysim.Instance{App: "shop", ID: "m1", Config: json.RawMessage(fmt.Sprintf(`{"image":%q,"init":%s}`, image, init))})
		if err != nil {
			t.Fatal(init, err)
		}
		waitUntil(t, func() bool { return isListening(p.Addr(0)) })
		_, body := httpGet(t, "http://"+p.Addr(0)+"/args")
		var args []string
		if err := json.Unmarshal([]byte(body), &args); err != nil || !slices.Equal(args, want) {
			t.Errorf("init %s runs %q, want %q", init, args, want)
		}
	}
}

func TestProcess_ExitCodeAndLog(t *testing.T) {
	dir := t.TempDir()
	runner := openRunner(t, dir)
	p, err := runner.Start(t.Context(), flysim.Instance{App: "shop", ID: "m1", Config: configOf(t, pushServer(t, runner), map[string]string{"EXIT": "7"})})
	if err != nil {
		t.Fatal(err)
	}
	awaitDone(t, "the end of the process", p.Done())
	if p.ExitCode() != 7 {
		t.Errorf("exit code %d, want 7", p.ExitCode())
	}
	want := []string{"about to end", "with 7"}
	if !slices.Equal(p.Log(), want) {
		t.Errorf("log %q, want %q", p.Log(), want)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "logs", "m1.log")); err != nil || string(b) != "about to end\nwith 7\n" {
		t.Errorf("log file %q, %v", b, err)
	}
	if err := p.Stop(t.Context(), "", time.Second); err != nil {
		t.Errorf("stop an ended process: %v", err)
	}
	for _, folder := range []string{"processes", "scratch"} {
		if left, _ := filepath.Glob(filepath.Join(dir, folder, "*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

func TestStop_Graceful(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	image := pushServer(t, runner)
	for signal, got := range map[string]string{"": "got interrupt", "SIGTERM": "got terminated", "int": "got interrupt"} {
		p := startAndWait(t, runner, "m1", image, nil)
		if err := p.Stop(t.Context(), signal, time.Minute); err != nil {
			t.Fatal(err)
		}
		if p.ExitCode() != 0 || !slices.Contains(p.Log(), got) {
			t.Errorf("signal %q: exit code %d, log %q", signal, p.ExitCode(), p.Log())
		}
	}
	p := startAndWait(t, runner, "m1", image, nil)
	if err := p.Stop(t.Context(), "SIGNIFICANT", time.Minute); err == nil || !strings.Contains(err.Error(), "SIGTERM") {
		t.Errorf("unknown signal: %v, want the known ones named", err)
	}
}

func TestStop_TimeoutKillsGroup(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	port, err := runner.ports.reserve()
	if err != nil {
		t.Fatal(err)
	}
	p := startAndWait(t, runner, "m1", pushServer(t, runner), map[string]string{"STUBBORN": "1", "CHILD_PORT": strconv.Itoa(port)})
	waitUntil(t, func() bool { return isListening(loopbackAddr(port)) })
	child := connectionEnd(t, loopbackAddr(port))
	if err := p.Stop(t.Context(), "SIGTERM", 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if p.ExitCode() != 128+int(syscall.SIGKILL) {
		t.Errorf("exit code %d, want 137", p.ExitCode())
	}
	awaitDone(t, "the child's end", child)
}

func TestStop_KillsChildren(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	port, err := runner.ports.reserve()
	if err != nil {
		t.Fatal(err)
	}
	p := startAndWait(t, runner, "m1", pushServer(t, runner), map[string]string{"CHILD_PORT": strconv.Itoa(port)})
	waitUntil(t, func() bool { return isListening(loopbackAddr(port)) })
	child := connectionEnd(t, loopbackAddr(port))
	if err := p.Stop(t.Context(), "SIGTERM", time.Minute); err != nil { // only the process itself gets the signal
		t.Fatal(err)
	}
	awaitDone(t, "the child's end", child)
}

func TestStop_CancelledContext(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	p := startAndWait(t, runner, "m1", pushServer(t, runner), map[string]string{"STUBBORN": "1"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Stop(ctx, "", time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	awaitDone(t, "the end of the process", p.Done())
}

func TestClose_LeavesNoProcess(t *testing.T) {
	for _, daemon := range []string{"", "1"} {
		if daemon != "" && !canSeeEnvironments() {
			t.Log("skipped: on this system a process that leaves its group can't be found")
			continue
		}
		runner, err := Open(t.TempDir(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		port, err := runner.ports.reserve()
		if err != nil {
			t.Fatal(err)
		}
		p := startAndWait(t, runner, "m1", pushServer(t, runner), map[string]string{"STUBBORN": "1", "DAEMON": daemon, "CHILD_PORT": strconv.Itoa(port)})
		waitUntil(t, func() bool { return isListening(loopbackAddr(port)) })
		child := connectionEnd(t, loopbackAddr(port))
		if err := runner.Close(); err != nil {
			t.Fatal(err)
		}
		awaitDone(t, "the machine's end", p.Done())
		awaitDone(t, "its child's end", child)
		if _, err := runner.Start(t.Context(), flysim.Instance{App: "shop", ID: "m2", Config: configOf(t, "shop", nil)}); err == nil {
			t.Error("a machine was started after Close")
		}
		if url := runner.URL("shop"); url != "" {
			t.Errorf("after Close the URL is %s", url)
		}
		if err := runner.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	}
}

func canSeeEnvironments() bool {
	_, err := os.Stat("/proc/self/environ")
	return err == nil
}

// The owner of a folder is killed with SIGKILL while its machine has a child
// that the kernel does not kill with it.
func TestKilledOwner_LeavesNoProcess(t *testing.T) {
	if !canSeeEnvironments() {
		t.Skip("needs Linux: on other systems children of a machine may survive")
	}
	for name, daemon := range map[string]string{"a child in its group": "", "a child that left its group": "1"} {
		t.Run(name, func(t *testing.T) { testKilledOwner(t, daemon) })
	}
}

func testKilledOwner(t *testing.T, daemon string) {
	dir := t.TempDir()
	runner := openRunner(t, dir)
	defer func() { _ = killMarked(runner.marker) }() // also if the test fails
	image := pushServer(t, runner)
	port, err := runner.ports.reserve()
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Close(); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(exe, dir, string(configOf(t, image, map[string]string{"STUBBORN": "1", "DAEMON": daemon, "CHILD_PORT": strconv.Itoa(port)})))
	owner.Env = append(os.Environ(), "LOCALRUNNER_TEST_ROLE=owner")
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	defer owner.Wait()         //nolint:errcheck // it was killed
	defer owner.Process.Kill() //nolint:errcheck // most often it was already
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr = strings.TrimSpace(addr)
	waitUntil(t, func() bool { return isListening(addr) && isListening(loopbackAddr(port)) })
	machine, child := connectionEnd(t, addr), connectionEnd(t, loopbackAddr(port))

	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, "the machine's end with its parent", machine)
	_ = owner.Wait() // it was killed
	again := openRunner(t, dir)
	awaitDone(t, "the child's end with the next owner", child)
	startAndWait(t, again, "m1", image, nil)
}

func TestKillStrays_ReusedPID(t *testing.T) {
	dir := t.TempDir()
	sleeper := exec.Command("sleep", "600")
	sleeper.SysProcAttr = newProcessGroup()
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = sleeper.Wait(); close(gone) }()
	defer func() { _ = sleeper.Process.Kill(); <-gone }()
	pid := sleeper.Process.Pid

	path, err := writePIDFile(dir, pid)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := json.Marshal(pidRecord{pid, "another birth"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, other, 0o600), killStrays(dir, "UNUSED=1")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
		t.Fatal("a process of another owner was killed")
	default:
	}
	if err := errors.Join(os.WriteFile(path, doc, 0o600), killStrays(dir, "UNUSED=1")); err != nil {
		t.Fatal(err)
	}
	awaitDone(t, "the end of the one that is ours", gone)
}

func TestOpen_FolderInUse(t *testing.T) {
	dir := t.TempDir()
	openRunner(t, dir)
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second owner: %v", err)
	}
	if _, err := Open(t.TempDir(), Options{Registry: "0.0.0.0:0"}); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("a registry on all addresses: %v", err)
	}
}

func TestProcessLog_Bounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m1.log")
	b, err := openProcessLog(path)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 3*logLine)
	var in strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&in, "%d %s\r\n", i, long[:2000])
	}
	in.WriteString(long + "\nno end of line")
	b.readLines(strings.NewReader(in.String()))
	b.close()
	lines := b.tail()
	if len(lines) != logLines || lines[logLines-1] != "no end of line" || lines[logLines-2] == long {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	for _, p := range []string{path, path + ".1"} {
		info, err := os.Stat(p)
		if err != nil || info.Size() > logFileCap+logLine+1 {
			t.Errorf("%s: %v, %v bytes", p, err, info.Size())
		}
	}
}

// A program listens on a port other than PORT, and another program listens on
// PORT: it is not a port of the machine.
func TestListeningPorts_OtherProgramOnPort(t *testing.T) {
	if !canSeeEnvironments() {
		t.Skip("needs Linux: other systems don't tell which process owns a port")
	}
	runner := openRunner(t, t.TempDir())
	p := startAndWait(t, runner, "m1", pushServer(t, runner), nil)
	if got := p.ListeningPorts([]int{8080, 8081}); !slices.Equal(got, []int{8080, 8081}) {
		t.Errorf("a program that listens on PORT listens on %v", got)
	}
	image := pushServer(t, runner)
	detached := startAndWait(t, runner, "m2", image, map[string]string{"ANY_PORT": "1", "CHILD_PORT": "PORT", "DAEMON": "1"})
	if got := detached.ListeningPorts([]int{8080}); len(got) != 2 || !slices.Contains(got, 8080) {
		t.Errorf("a program with a detached child listens on %v, want two ports, and 8080 of them", got)
	}
	deaf, err := runner.Start(t.Context(), flysim.Instance{App: "shop", ID: "m3", Config: configOf(t, image, map[string]string{"ANY_PORT": "1"})})
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", deaf.Addr(8080))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	waitUntil(t, func() bool { return len(deaf.ListeningPorts([]int{8080})) > 0 })
	if got := deaf.ListeningPorts([]int{8080}); len(got) != 1 || slices.Contains(got, 8080) {
		t.Errorf("a program that listens on another port listens on %v", got)
	}
}

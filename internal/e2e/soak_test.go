package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/microbima/release/activities"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/fly/flysim/localrunner"
	"github.com/microbima/release/git"
	"github.com/microbima/release/image"
	"github.com/microbima/release/release"
	"github.com/microbima/release/worker"
)

var soakReleases = flag.Int("releases", 10, "releases back to back, in TestSoak")

// useRealImages enables real checkouts, builds and pushes.
func useRealImages(a *activities.Activities, registry string) {
	a.Git, a.Go, a.Images = &git.Mirror{Dir: filepath.Join(a.Logs, "git")}, &image.Go{}, &image.Registry{Insecure: true}
	a.Registry, a.Insecure, a.Environ = registry, true, os.Environ()
}

// A memorySize is the memory of a process after garbage collection.
type memorySize struct {
	Heap       int `json:"heap"` // bytes
	Goroutines int `json:"goroutines"`
}

// serveSizes writes a size for each line of in.
func serveSizes(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		runtime.GC()
		runtime.GC() // frees objects with finalizers
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if err := json.NewEncoder(out).Encode(memorySize{int(m.HeapAlloc), runtime.NumGoroutine()}); err != nil {
			return err
		}
	}
	return lines.Err()
}

// TestSoak runs releases one after another on one worker, with real checkouts, tests,
// builds and pushes: promoted ones, and ones that fail in each way. The resources of
// the worker do not grow with their number, except for data that is kept on purpose.
func TestSoak(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	defer cancel()
	s := newSoakTest(ctx, t)
	idle, begin := s.sampleIdle(0), time.Now()
	for n := range *soakReleases {
		s.runRound(ctx, n)
		if (n+1)%len(rounds) == 0 || n+1 == *soakReleases {
			s.samples = append(s.samples, s.sampleIdle(n+1))
		}
	}
	s.printSamples(time.Since(begin), idle)
	s.checkGrowth(idle)
}

// A soakTest is a long run of one worker.
type soakTest struct {
	*processEnv
	c        client.Client
	worker   *childProcess
	sizes    *json.Decoder
	source   string // the repository
	temp     string // the worker's folder for temporary files
	registry string // the registry's folder
	sleeps   string // the command that each test starts in the background
	before   release.Revision
	latest   release.Revision
	failing  release.Revision
	built    map[string]bool // revisions
	samples  []sample
}

const soaked = "soak" // the project

func newSoakTest(ctx context.Context, t *testing.T) *soakTest {
	t.Helper()
	w := newProcessEnv(t)
	machines := t.TempDir()
	l, err := localrunner.Open(machines, localrunner.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	w.sim.Images = l.Image
	s := &soakTest{processEnv: w, source: t.TempDir(), temp: t.TempDir(), registry: filepath.Join(machines, "registry"), built: map[string]bool{},
		sleeps: fmt.Sprintf("sleep 7%d", os.Getpid())}
	t.Setenv("TMPDIR", s.temp) // of the worker; this process has its folders already
	said, says := io.Pipe()
	s.sizes = json.NewDecoder(said)
	s.worker, err = startProcess(ctx, processJob{Temporal: w.temporal, Namespace: "default", Fly: w.fly, Logs: w.logs, Registry: l.Registry()}, says)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.worker.stop)
	if s.c, err = client.Dial(client.Options{HostPort: w.temporal, Logger: errorLogger(io.Discard), DataConverter: worker.DataConverter()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.c.Close)
	app := projectFixture{apps: []string{"api"}}
	app.createApps(w.sim, soaked)
	s.git("init", "--quiet", "--initial-branch=main")
	app.test = "sh ./test.sh"
	s.write(map[string]string{
		"go.mod": "module example.com/soak\n\ngo 1.24\n",
		// Files and processes of a test are removed with it.
		"test.sh": "set -e\ntest ! -e broken\necho kept > here\necho kept > \"$HOME/there\"\n" + s.sleeps + " &\ntest -s go.mod\n",
	})
	for name, file := range app.files(soaked) {
		s.write(map[string]string{name: string(file.Data)})
	}
	s.write(map[string]string{"api/main.go": programSource(-1)})
	s.latest = s.commit("first")
	s.write(map[string]string{"broken": "yes\n"})
	s.failing = s.commit("broken")
	if err := os.Remove(filepath.Join(s.source, "broken")); err != nil {
		t.Fatal(err)
	}
	return s
}

func programSource(n int) string {
	return fmt.Sprintf("package main\n\nfunc main() { println(%d) }\n", n)
}

func (s *soakTest) write(files map[string]string) {
	s.t.Helper()
	for name, text := range files {
		path := filepath.Join(s.source, filepath.FromSlash(name))
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *soakTest) git(args ...string) string {
	s.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Ana", "-c", "user.email=ana@example.com"}, args...)...)
	cmd.Dir, cmd.Env = s.source, append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *soakTest) commit(subject string) release.Revision {
	s.t.Helper()
	s.git("add", "--all")
	s.git("commit", "--quiet", "--message", subject)
	return release.Revision{Commit: s.git("rev-parse", "HEAD"), Tree: s.git("rev-parse", "HEAD^{tree}"), Subject: subject}
}

// rounds are the kinds of releases, in order.
var rounds = []func(*soakTest, context.Context, int) error{
	(*soakTest).promote, (*soakTest).promoteSameFiles, (*soakTest).failTest, (*soakTest).failChecks, (*soakTest).abortRelease,
}

func (s *soakTest) runRound(ctx context.Context, n int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := rounds[n%len(rounds)](s, ctx, n); err != nil {
		s.t.Fatalf("release %d: %v", n+1, err)
	}
}

// promote releases a new revision to production.
func (s *soakTest) promote(ctx context.Context, n int) error {
	s.write(map[string]string{"api/main.go": programSource(n)})
	s.before, s.latest = s.latest, s.commit(fmt.Sprintf("version %d", n))
	return s.runRelease(ctx, s.latest, release.Promoted, s.approvePlan)
}

// promoteSameFiles releases a revision with the same files as the one before, so that its
// image exists.
func (s *soakTest) promoteSameFiles(ctx context.Context, n int) error {
	s.git("checkout", "--quiet", s.before.Commit, "--", ".")
	return s.runRelease(ctx, s.commit(fmt.Sprintf("version %d, the files of the one before", n)), release.Promoted, s.approvePlan)
}

func (s *soakTest) failTest(ctx context.Context, _ int) error {
	return s.runRelease(ctx, s.failing, release.Stopped, nil)
}

// failChecks releases a revision that never becomes healthy and is rolled back.
func (s *soakTest) failChecks(ctx context.Context, n int) error {
	s.write(map[string]string{"api/main.go": programSource(n)})
	s.latest = s.commit(fmt.Sprintf("version %d", n))
	return s.runRelease(ctx, s.latest, release.RolledBack, func(ctx context.Context, run client.WorkflowRun) error {
		place := flyApp(soaked, "production", "api")
		s.sim.Inject(flysim.Fault{Route: update, App: place, Times: 1, Effect: flysim.NeverPasses})
		return s.approvePlan(ctx, run)
	})
}

func (s *soakTest) abortRelease(ctx context.Context, _ int) error {
	return s.runRelease(ctx, s.latest, release.Stopped, func(ctx context.Context, run client.WorkflowRun) error {
		if _, err := waitForGate(ctx, s.c, run); err != nil {
			return err
		}
		return s.c.CancelWorkflow(ctx, run.GetID(), run.GetRunID())
	})
}

func (s *soakTest) approvePlan(ctx context.Context, run client.WorkflowRun) error {
	return approvePlan(ctx, s.c, run)
}

// runRelease releases one revision and checks its outcome.
func (s *soakTest) runRelease(ctx context.Context, rev release.Revision, want release.Outcome, then func(context.Context, client.WorkflowRun) error) error {
	req := request(soaked, "v0")
	req.Revision, req.Repository = rev, s.source
	s.built[rev.Commit] = true
	run, err := s.c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: release.ReleaseID(soaked, rev), TaskQueue: release.TaskQueue}, release.ReleaseWorkflow, req)
	if err == nil && then != nil {
		err = then(ctx, run)
	}
	var report release.Report
	if got := run.Get(ctx, &report); err != nil || got != nil || report.Outcome != want {
		return fmt.Errorf("%s ended %q, %+v, %w; want %q", rev.Subject, report.Outcome, report.Cause, errors.Join(err, got), want)
	}
	return nil
}

// A sample is the resources used after a number of releases.
type sample struct {
	releases                       int
	heap, rss                      int // bytes
	goroutines, files              int // of the worker; open files
	temp, homes, worktrees         int // files and folders that a careless release would leave behind
	processes                      int // left by tests
	logs, blobs, revisions, mirror int // kept data, and the number of its revisions
}

// sampleIdle waits until the worker is idle and takes a sample.
func (s *soakTest) sampleIdle(releases int) (now sample) {
	s.t.Helper()
	for range 50 {
		before := now
		now = s.takeSample(releases)
		if now.goroutines == before.goroutines && now.files == before.files {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return now
}

func (s *soakTest) takeSample(releases int) sample {
	s.t.Helper()
	if _, err := io.WriteString(s.worker.stdin, "\n"); err != nil {
		s.t.Fatal(err)
	}
	var z memorySize
	if err := s.sizes.Decode(&z); err != nil {
		s.t.Fatal(err)
	}
	pid := s.worker.cmd.Process.Pid
	rss, _ := readMemory(pid, "VmRSS")
	return sample{
		releases: releases, heap: z.Heap, goroutines: z.Goroutines, rss: rss, files: countEntries(fmt.Sprintf("/proc/%d/fd", pid)),
		temp:      countFiles(s.temp),
		homes:     countEntries(filepath.Join(s.logs, "homes")),
		worktrees: len(globFiles(s.t, s.logs, "git/*/checkouts/*")) + len(globFiles(s.t, s.logs, "git/*/mirror.git/worktrees/*")),
		logs:      len(globFiles(s.t, s.logs, "logs/release/*/*/*")),
		mirror:    countFiles(filepath.Join(s.logs, "git")),
		blobs:     len(globFiles(s.t, s.registry, "blobs/*/*")),
		revisions: len(s.built), processes: countProcesses(s.sleeps),
	}
}

func globFiles(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// countEntries returns the number of entries of a folder, or 0 if it does not exist.
func countEntries(dir string) int {
	all, _ := os.ReadDir(dir)
	return len(all)
}

// countFiles returns the number of files and folders at any depth.
func countFiles(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { n++; return nil })
	return n - 1
}

// countProcesses returns the number of processes of a command.
func countProcesses(command string) (n int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		if line, err := os.ReadFile(file); err == nil && strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")) == command {
			n++
		}
	}
	return n
}

func (s *soakTest) printSamples(took time.Duration, idle sample) {
	fmt.Printf("\n%d releases back to back in %.0f s; what the worker holds when it is at rest\n", *soakReleases, took.Seconds())
	var rows [][]string
	for _, a := range append([]sample{idle}, s.samples...) {
		row := []string{fmt.Sprint(a.releases), formatMegabytes(a.heap), formatMegabytes(a.rss)}
		for _, n := range []int{a.goroutines, a.files, a.temp, a.homes, a.worktrees, a.processes, a.mirror, a.logs, a.revisions, a.blobs} {
			row = append(row, fmt.Sprint(n))
		}
		rows = append(rows, row)
	}
	printTable([]string{"releases", "heap, MB", "RSS, MB", "goroutines", "open files", "temp", "homes", "worktrees", "processes", "mirror files", "logs", "revisions", "blobs"}, rows...)
	a, z := s.samples[0], s.samples[len(s.samples)-1]
	fmt.Printf("\nsoak releases=%d heap=%s→%sMB goroutines=%d→%d files=%d→%d temp=%d→%d worktrees=%d→%d blobs=%d→%d (of %d→%d revisions)\n", *soakReleases,
		formatMegabytes(a.heap), formatMegabytes(z.heap), a.goroutines, z.goroutines, a.files, z.files, a.temp, z.temp, a.worktrees, z.worktrees, a.blobs, z.blobs, a.revisions, z.revisions)
}

func formatMegabytes(n int) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }

// checkGrowth fails if a resource grows.
func (s *soakTest) checkGrowth(idle sample) {
	s.t.Helper()
	for _, a := range s.samples {
		if a.temp > idle.temp || a.homes+a.worktrees+a.processes > 0 {
			s.t.Errorf("after %d releases there are %d temporary files (%d before), %d homes, %d worktrees, %d processes of tests",
				a.releases, a.temp, idle.temp, a.homes, a.worktrees, a.processes)
		}
		// A new revision adds its program and its image config; a repeated revision
		// adds nothing.
		first := s.samples[0]
		if most := first.blobs + 2*(a.revisions-first.revisions); a.blobs > most {
			s.t.Errorf("after %d releases of %d revisions the registry has %d blobs, want %d at most", a.releases, a.revisions, a.blobs, most)
		}
		if want := a.releases; a.logs != want {
			s.t.Errorf("after %d releases there are %d folders of logs, want %d", a.releases, a.logs, want)
		}
	}
	// Compare the first third with the last, so that fluctuations do not count.
	third := max(1, len(s.samples)/3)
	early, late := s.samples[:third], s.samples[len(s.samples)-third:]
	for _, c := range []struct {
		what  string
		of    func(sample) int
		noise int
	}{
		{"heap", func(a sample) int { return a.heap }, 2 << 20},
		{"RSS", func(a sample) int { return a.rss }, 40 << 20},
		// The keeper of leases of an ended rollout stops within 20 s, so that those
		// of several rollouts exist.
		{"goroutines", func(a sample) int { return a.goroutines }, 40},
		{"open files", func(a sample) int { return a.files }, 4},
	} {
		most, least := maxOf(early, c.of), minOf(late, c.of)
		if least > most+c.noise {
			s.t.Errorf("%s grew with the releases: from at most %d to at least %d", c.what, most, least)
		}
	}
}

func maxOf(samples []sample, of func(sample) int) int {
	return of(slices.MaxFunc(samples, func(a, b sample) int { return of(a) - of(b) }))
}

func minOf(samples []sample, of func(sample) int) int {
	return of(slices.MinFunc(samples, func(a, b sample) int { return of(a) - of(b) }))
}

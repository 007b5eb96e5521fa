package buildkit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/microbima/release/image"
)

// findProcesses returns the processes whose command line contains a word.
func findProcesses(t *testing.T, word string) (found []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		line, err := os.ReadFile(path)
		var pid int
		if _, scan := fmt.Sscanf(path, "/proc/%d/", &pid); err == nil && scan == nil && bytes.Contains(line, []byte(word)) && pid != os.Getpid() {
			found = append(found, pid)
		}
	}
	return found
}

// eventually fails the test unless a condition is met within 30 seconds.
func eventually(t *testing.T, condition string, isMet func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !isMet(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", condition)
		}
	}
}

// sleepingDockerfile returns a Dockerfile whose only step sleeps, and a word that is
// only in the command line of that step. The step is killed after the test.
func sleepingDockerfile(t *testing.T) (dockerfile, word string) {
	word = fmt.Sprintf("%d.%d", 10000+time.Now().UnixNano()%10000, os.Getpid())
	t.Cleanup(func() {
		for _, pid := range findProcesses(t, word) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return "FROM base:1\nRUN sleep " + word + "\n", word
}

// When the context ends, the build ends and its steps are killed.
func TestBuild_Cancelled(t *testing.T) {
	b := startBuildkitd(t, "").newBuilder(t)
	dockerfile, word := sleepingDockerfile(t)
	src := newSource(t, map[string]string{"Dockerfile": dockerfile})
	req, _ := newRequest(t, newRegistry(t))
	cause := errors.New("cancelled by the test")
	for name, run := range map[string]func(context.Context) error{
		"build": func(ctx context.Context) error { _, err := b.Build(ctx, src, req); return err },
		"test":  func(ctx context.Context) error { return b.Test(ctx, src, req) },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx) }()
		eventually(t, "the step runs", func() bool { return len(findProcesses(t, word)) > 0 })
		start := time.Now()
		cancel(cause)
		select {
		case err := <-ended:
			if !errors.Is(err, cause) {
				t.Errorf("%s: it ended with %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it did not end", name)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s: it took %v to end", name, took)
		}
		eventually(t, "the step has ended", func() bool { return len(findProcesses(t, word)) == 0 })
	}
}

// A BuildKit that is killed during a build is a transient error, and the next build
// succeeds with another BuildKit on the same files.
func TestBuild_BuildKitKilled(t *testing.T) {
	d := startBuildkitd(t, "")
	dockerfile, word := sleepingDockerfile(t)
	src := newSource(t, map[string]string{"Dockerfile": dockerfile})
	host := newRegistry(t)
	req, _ := newRequest(t, host)
	ended := make(chan error, 1)
	b := d.newBuilder(t)
	go func() { _, err := b.Build(t.Context(), src, req); ended <- err }()
	eventually(t, "the step runs", func() bool { return len(findProcesses(t, word)) > 0 })
	d.kill()
	select {
	case err := <-ended:
		var failed *image.BuildError
		if err == nil || errors.As(err, &failed) || !strings.Contains(err.Error(), "BuildKit at "+d.address+" does not answer") {
			t.Errorf("it ended with %T %v", err, err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it did not end")
	}
	for _, pid := range findProcesses(t, word) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	unmount(t, d.root)
	if err := os.WriteFile(filepath.Join(src.Dir, "Dockerfile"), []byte("FROM base:1\nRUN echo done > /a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	build(t, startBuildkitd(t, d.root).newBuilder(t), src, req) // with the files of the killed one
}

// Concurrent builds share a BuildKit and do not affect each other.
func TestBuild_Concurrent(t *testing.T) {
	b := startBuildkitd(t, "").newBuilder(t)
	host := newRegistry(t)
	var wg sync.WaitGroup
	images := make([]image.Built, 2)
	for i := range images {
		src := newSource(t, map[string]string{"Dockerfile": "FROM base:1\nCOPY a /a\nRUN sleep 1; cat /a > /b\n", "a": fmt.Sprint(i)})
		req, _ := newRequest(t, fmt.Sprintf("%s/%d", host, i))
		wg.Go(func() {
			var err error
			if images[i], err = b.Build(t.Context(), src, req); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i, built := range images {
		img, _ := pull(t, built.Image)
		if got := readImageFile(t, img, "b"); got != fmt.Sprint(i) {
			t.Errorf("/b in the image of build %d is %q", i, got)
		}
	}
}

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

// processes are those whose command line has a word in it.
func processes(t *testing.T, word string) (found []int) {
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

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// sleeper is a Dockerfile whose only step sleeps for a time that nobody else
// does. Whatever still does in the end is killed.
func sleeper(t *testing.T) (dockerfile, word string) {
	word = fmt.Sprintf("%d.%d", 10000+time.Now().UnixNano()%10000, os.Getpid())
	t.Cleanup(func() {
		for _, pid := range processes(t, word) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return "FROM base:1\nRUN sleep " + word + "\n", word
}

// TestCancel: with its context ends a build, and what it runs.
func TestCancel(t *testing.T) {
	b := start(t, "").builder(t)
	dockerfile, word := sleeper(t)
	src := source(t, map[string]string{"Dockerfile": dockerfile})
	req, _ := request(t, shop(t))
	why := errors.New("called off")
	for name, run := range map[string]func(context.Context) error{
		"build": func(ctx context.Context) error { _, err := b.Build(ctx, src, req); return err },
		"test":  func(ctx context.Context) error { return b.Test(ctx, src, req) },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx) }()
		eventually(t, "the step runs", func() bool { return len(processes(t, word)) > 0 })
		began := time.Now()
		cancel(why)
		select {
		case err := <-ended:
			if !errors.Is(err, why) {
				t.Errorf("%s: it ended with %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it did not end", name)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: it took %v to end", name, took)
		}
		eventually(t, "the step is gone", func() bool { return len(processes(t, word)) == 0 })
	}
}

// TestBuildKitIsKilled: in the middle of a build, and another one is there for
// the next attempt.
func TestBuildKitIsKilled(t *testing.T) {
	d := start(t, "")
	dockerfile, word := sleeper(t)
	src := source(t, map[string]string{"Dockerfile": dockerfile})
	host := shop(t)
	req, _ := request(t, host)
	ended := make(chan error, 1)
	b := d.builder(t)
	go func() { _, err := b.Build(t.Context(), src, req); ended <- err }()
	eventually(t, "the step runs", func() bool { return len(processes(t, word)) > 0 })
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
	for _, pid := range processes(t, word) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	unmount(t, d.root)
	if err := os.WriteFile(filepath.Join(src.Dir, "Dockerfile"), []byte("FROM base:1\nRUN echo done > /a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	build(t, start(t, d.root).builder(t), src, req) // the files that the dead one left
}

// TestTwoAtOnce share a BuildKit, and nothing else.
func TestTwoAtOnce(t *testing.T) {
	b := start(t, "").builder(t)
	host := shop(t)
	var wg sync.WaitGroup
	images := make([]image.Built, 2)
	for i := range images {
		src := source(t, map[string]string{"Dockerfile": "FROM base:1\nCOPY a /a\nRUN sleep 1; cat /a > /b\n", "a": fmt.Sprint(i)})
		req, _ := request(t, fmt.Sprintf("%s/%d", host, i))
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
		if got := fileOf(t, img, "b"); got != fmt.Sprint(i) {
			t.Errorf("build %d has %q in it", i, got)
		}
	}
}

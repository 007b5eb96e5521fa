package localstack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"github.com/microbima/release/internal/testrepo"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/internal/cli"
	"github.com/microbima/release/release"
)

// BenchmarkImages measures releases to staging and production with warm caches: one
// without a change of its three apps, and one with a changed line in one app. Only Fly is
// simulated: Temporal, git, the builder, the registry and the processes of machines are
// real. Dockerfiles need BUILDKIT_HOST.
func BenchmarkImages(b *testing.B) {
	for _, builder := range []string{"go", "Dockerfile"} {
		b.Run(builder, func(b *testing.B) {
			if builder == "Dockerfile" && os.Getenv("BUILDKIT_HOST") == "" {
				b.Skip("BUILDKIT_HOST is not set")
			}
			s := newFixture(b, builder)
			s.release("to begin with", release.Promoted)
			var unchanged, line []measurement
			releases := func() {
				i := fmt.Sprint(len(line) + 1)
				s.Write("README.md", i)
				unchanged = append(unchanged, s.release("words only", release.Unchanged))
				s.edit("web", i)
				line = append(line, s.release("one line of web", release.Promoted))
				s.checkOnlyWeb()
			}
			for b.Loop() {
				releases()
			}
			for len(line) < 5 {
				releases()
			}
			fmt.Printf("%s: three apps unchanged: %s\n", builder, formatMedian(unchanged))
			fmt.Printf("%s: one line of one app, to staging and production: %s\n", builder, formatMedian(line))
		})
	}
}

// A measurement is the time of a release after its files were read, and its bytes.
type measurement struct {
	took, building time.Duration
	pushed, copied int64
}

// formatMedian formats the median of costs.
func formatMedian(costs []measurement) string {
	slices.SortFunc(costs, func(a, b measurement) int { return int(a.took - b.took) })
	c := costs[len(costs)/2]
	return fmt.Sprintf("%.2f s after the checkout, %.2f s of them building; %d bytes pushed, %d copied (median of %d)",
		c.took.Seconds(), c.building.Seconds(), c.pushed, c.copied, len(costs))
}

// A fixture is a repository with three apps and a stack that releases it.
type fixture struct {
	testrepo.Repository
	b       *testing.B
	builder string
	environ []string
	last    release.Report
}

func newFixture(b *testing.B, builder string) *fixture {
	s := &fixture{b: b, builder: builder, Repository: testrepo.New(b)}
	state := b.TempDir()
	s.environ = append(os.Environ(), "RELEASE_STATE_DIR="+state)
	stack, err := startStack(b.Context(), s.world(nil, new(bytes.Buffer)), options{dir: state, inMemory: true, grace: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := stack.close(); err != nil {
			b.Error(err)
		}
	})
	toml := "project = \"street\"\n"
	s.Write("go.mod", "module street\n\ngo 1.26\n")
	for _, app := range []string{"api", "web", "job"} {
		s.edit(app, "0")
		if builder == "go" {
			toml += fmt.Sprintf("[apps.%s]\ngo = \"./%[1]s\"\n", app)
		} else {
			s.Write("infra/fly/"+app+"/Dockerfile", fmt.Sprintf("FROM scratch\nCOPY %s/app /app\nENTRYPOINT [\"/app\"]\n", app))
		}
		for _, environment := range []string{"staging", "production"} {
			s.Write("infra/fly/"+app+"/"+environment+"/fly.toml", testrepo.FlyToml("shop-"+environment+"-"+app, "info"))
		}
	}
	s.Write("release.toml", toml+"[environments.staging]\n[environments.production]\nafter = \"staging\"\n")
	return s
}

func (s *fixture) world(args []string, stdout *bytes.Buffer) *cli.World {
	return &cli.World{Args: args, Stdin: strings.NewReader(""), Stdout: stdout, Stderr: new(bytes.Buffer), Env: s.environ, Dir: s.Dir, Now: time.Now}
}

// edit changes a line of an app. The Dockerfile copies a compiled program, so that the
// benchmark does not measure a Go toolchain in an image.
func (s *fixture) edit(app, line string) {
	s.b.Helper()
	s.Write(app+"/main.go", fmt.Sprintf(`package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, %q) })
	fmt.Println(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}
`, line))
	if s.builder == "go" {
		return
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", app+"/app", "./"+app)
	cmd.Dir, cmd.Env = s.Dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.b.Fatalf("%v: %s", err, out)
	}
}

// release commits all files and releases them to production.
func (s *fixture) release(subject string, want release.Outcome) measurement {
	s.b.Helper()
	s.Commit(subject)
	ctx, cancel := context.WithTimeout(s.b.Context(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	code := cli.Run(ctx, s.world([]string{"start", "--wait", "--json"}, &out), cli.LocalCommands{})
	s.last = release.Report{}
	if err := json.Unmarshal(out.Bytes(), &s.last); err != nil || s.last.Outcome != want {
		s.b.Fatalf("exit code %d, %v, %s; want %s\n%s", code, err, s.last.Outcome, want, out.Bytes())
	}
	var c measurement
	for _, span := range s.last.Spans {
		switch took := span.Duration(s.last.Ended); span.Phase {
		case release.Loading, release.Done:
		case release.Building:
			c.building = took
			c.took += took
		default:
			c.took += took
		}
	}
	for _, built := range s.last.Builds {
		c.pushed += built.PushedBytes
	}
	for _, e := range s.last.Environments {
		c.copied += e.CopiedBytes
	}
	return c
}

// checkOnlyWeb fails unless only the machines of web were changed, and each image was
// built once.
func (s *fixture) checkOnlyWeb() {
	s.b.Helper()
	for _, e := range s.last.Environments {
		for _, t := range e.Targets {
			if t.Changed != (t.Target.App == "web") {
				s.b.Errorf("%s changed: %v", t.Target, t.Changed)
			}
		}
	}
	if len(s.last.Builds) != 3 {
		s.b.Errorf("%d builds for three apps", len(s.last.Builds))
	}
}

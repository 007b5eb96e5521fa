package localstack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
				s.write("README.md", i)
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
	b       *testing.B
	builder string
	dir     string
	environ []string
	last    release.Report
}

func newFixture(b *testing.B, builder string) *fixture {
	s := &fixture{b: b, builder: builder, dir: b.TempDir()}
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
	s.write("go.mod", "module street\n\ngo 1.26\n")
	for _, app := range []string{"api", "web", "job"} {
		s.edit(app, "0")
		if builder == "go" {
			toml += fmt.Sprintf("[apps.%s]\ngo = \"./%[1]s\"\n", app)
		} else {
			s.write("infra/fly/"+app+"/Dockerfile", fmt.Sprintf("FROM scratch\nCOPY %s/app /app\nENTRYPOINT [\"/app\"]\n", app))
		}
		for _, environment := range []string{"staging", "production"} {
			s.write("infra/fly/"+app+"/"+environment+"/fly.toml", strings.Replace(flyToml(environment, "info"), "-api", "-"+app, 1))
		}
	}
	s.write("release.toml", toml+"[environments.staging]\n[environments.production]\nafter = \"staging\"\n")
	s.git("init", "-q")
	return s
}

func (s *fixture) world(args []string, stdout *bytes.Buffer) *cli.World {
	return &cli.World{Args: args, Stdin: strings.NewReader(""), Stdout: stdout, Stderr: new(bytes.Buffer), Env: s.environ, Dir: s.dir, Now: time.Now}
}

func (s *fixture) write(name, text string) {
	s.b.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.b.Fatal(err)
	}
}

// edit changes a line of an app. The Dockerfile copies a compiled program, so that the
// benchmark does not measure a Go toolchain in an image.
func (s *fixture) edit(app, line string) {
	s.b.Helper()
	s.write(app+"/main.go", fmt.Sprintf(`package main

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
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.b.Fatalf("%v: %s", err, out)
	}
}

func (s *fixture) git(args ...string) {
	s.b.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Ada", "-c", "user.email=ada@example.com"}, args...)...)
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		s.b.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// release commits all files and releases them to production.
func (s *fixture) release(subject string, want release.Outcome) measurement {
	s.b.Helper()
	s.git("add", ".")
	s.git("commit", "-q", "-m", subject)
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

func flyToml(environment, level string) string {
	return fmt.Sprintf(`app = "shop-%s-api"
primary_region = "ams"
[env]
LEVEL = %q
[deploy]
wait_timeout = "3s"
[http_service]
internal_port = 8080
[[http_service.checks]]
path = "/health"
interval = "1s"
timeout = "1s"
grace_period = "1s"
`, environment, level)
}

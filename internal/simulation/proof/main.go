// Command proof writes docs/verification.md from real runs. It runs the commands of each
// section at full size and records their output. It needs git and Debian's package of
// PostgreSQL, and takes most of an hour on two cores. If a command fails, the page says
// so and the exit code is 1.
//
//	go run ./internal/simulation/proof              # writes docs/verification.md
//	go run ./internal/simulation/proof -only kills  # runs one section and replaces it in docs/verification.md
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// report is the page that this command writes, from the root of the repository.
const report = "docs/verification.md"

func main() {
	only := flag.String("only", "", "run only this section; the others stay unchanged in "+report)
	base := flag.Uint64("base", uint64(time.Now().Unix()), "first seed of the simulations, and the seed of the kills")
	flag.Parse()
	if err := updatePage(*only, *base); err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
		os.Exit(1)
	}
}

// A section of the page is a claim and the commands that prove it.
type section struct {
	name, title, text string
	commands          []command
}

// A command is a command line and the part of its output that the page shows. By
// default that is all output except the lines of go test itself.
type command struct {
	line   string
	passed bool // only the names of the tests that passed
	last   bool // only the last line
	tables bool // without log lines of the tests
}

// listSections returns the sections in the order of the page.
func listSections(base uint64) []section {
	test := func(line string) command { return command{line: line} }
	fuzz := func(name, pkg string) command {
		return command{line: fmt.Sprintf("go test ./%s -run '^$' -fuzz '^%s$' -fuzztime 20s -fuzzminimizetime 10x", pkg, name), last: true}
	}
	return []section{
		{"seeds", "Ten thousand simulations", `Releases of generated projects run with generated trouble, in virtual time and in one process. The workflows,
activities, client and planner are the real ones. Fly, the workers, the operators and the clock are simulated
and drawn from the seed. Each case is checked against the guarantees of [ARCHITECTURE.md](../ARCHITECTURE.md#guarantees)
while it runs and after it: the report is true, nothing is left on Fly, another release succeeds, and a second
release of the same revision changes nothing. A seed always takes the same course. A seed that fails is shrunk
and kept in ` + "`internal/simulation/testdata/cases`" + `. The columns show how the first release ended in the schedules with that
trouble, and in how many schedules a rollout was held.`,
			[]command{test(fmt.Sprintf("go test ./internal/simulation -run Seeds -v -seeds 10000 -base %d -timeout 30m", base))}},
		{"mutants", "Mutants", `Each line is this program with one fault added by an overlay of its source, and the first seed at which the
simulation found the fault. The test fails if neither one of 2,000 seeds nor a kept case finds it.`,
			[]command{test("go test ./internal/simulation -run Mutants -v -timeout 2h")}},
		{"kills", "Two hundred kills", `The worker, the Temporal server and the simulated Fly are separate processes. They are killed with SIGKILL at
random while eight projects are released in parallel: once with Temporal on a SQLite file, once with its server
on PostgreSQL. Temporal starts an activity of a killed worker again when it misses a heartbeat: after at most
4 seconds for a step on a machine, 30 for an activity that only watches (a bake), and 10 for all others. The
table shows how long that took from the start of the new worker.`,
			[]command{{line: fmt.Sprintf("go test ./internal/e2e -run Kills -v -kills 200 -seed %d -timeout 40m", base), tables: true}}},
		{"activities", "A kill after every activity", `One release with a release command runs once for each of its activities. In each run the worker is killed just
after another activity took effect, before Temporal received the result. Nothing is done twice.`,
			[]command{test("go test ./internal/e2e -run WorkerKilledAfterEachActivity -v")}},
		{"upgrade", "Upgrades and replays", `A worker is replaced by a build with a changed workflow, while a release waits at its gate and in the middle of
a rollout. A change without GetVersion is detected, and no release is lost. All recorded histories are replayed:
one for each outcome, strategy and workflow.`,
			[]command{{line: "go test ./internal/e2e -run Upgrade -v", passed: true}, {line: "go test ./workflows -run Replay -v", passed: true}}},
		{"load", "Load", `A thousand releases wait at gates while fifty rollouts of twelve machines run. One worker and the embedded
server are separate processes.`,
			[]command{test("go test ./internal/e2e -run 'TestLoad$' -v -gates 1000 -rollouts 50 -timeout 25m"), test("go test ./internal/e2e -run ThousandMachines -v")}},
		{"soak", "Soak", `A hundred releases run through one worker, one after the other. Checkouts, tests, builds and pushes are real;
Fly's latencies are scaled down. [operating.md](operating.md#where-things-are-kept) lists what may grow.`,
			[]command{test("go test ./internal/e2e -run Soak -v -releases 100 -timeout 25m")}},
		{"speed", "Speed", `One rollout in virtual time, within Fly's published limits, compared with the shortest time that its strategy allows.`,
			[]command{test("go test -run '^$' -bench Rollout ./workflows")}},
		{"fuzz", "Bad input", `Files, decisions and responses of Fly are malformed, truncated, huge or slow. Each time the result is an error
that names the problem. There is never a panic, and memory stays bounded.`,
			[]command{
				fuzz("FuzzParse", "fly/flytoml"), fuzz("FuzzUpdate", "fly/flytoml"), fuzz("FuzzLoad", "config"), fuzz("FuzzAnswers", "fly"), fuzz("FuzzReviews", "workflows"),
				{line: "go test ./fly -run EndlessResponse -v", passed: true},
			}},
		{"security", "Tokens and hostile repositories", `Marker tokens are configured, and all written data is searched for them: Temporal's database, histories, logs,
errors and output. Hostile contents of a repository stay in its checkout: paths with .., symlinks, submodules,
hooks, ext:: remotes, names like options.`,
			[]command{
				{line: "go test ./cmd/release -run 'TestScript/^(tokens|hostile|dev)$' -v", passed: true},
				{line: "go test ./image ./activities ./git -run 'HidesWorker|LeavesNoProcess|CodeOutsideCheckout|OutOfRepository' -v", passed: true},
			}},
	}
}

const preface = `# Verification

This page proves that no release is lost, whichever process is killed. The command below wrote it from the runs
that it shows. Each section names the command to run it alone. Times are those of one machine on one day.

    go run ./internal/simulation/proof
`

// updatePage runs all sections, or the one named only, and writes docs/verification.md
// after each. It returns an error that names the failed sections.
func updatePage(only string, base uint64) error {
	page, err := os.ReadFile(report)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	texts := map[string]string{} // of sections, by title; from the old page first
	for i, part := range strings.Split(string(page), "\n## ") {
		if title, _, ok := strings.Cut(part, "\n"); ok && i > 0 {
			texts[title] = "\n## " + strings.TrimRight(part, "\n") + "\n"
		}
	}
	isKnown, failed := false, []string{}
	for _, s := range listSections(base) {
		if only != "" && s.name != only {
			continue
		}
		isKnown = true
		text, err := s.runCommands()
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", s.name, err))
		}
		texts[s.title] = text
		if err := writePage(texts, base); err != nil {
			return err
		}
	}
	if !isKnown {
		return fmt.Errorf("unknown section %q", only)
	}
	if len(failed) > 0 {
		return errors.New("sections failed; fix the cause and run each again with -only:\n" + strings.Join(failed, "\n"))
	}
	return nil
}

// writePage writes docs/verification.md with the texts of the sections, by title.
func writePage(texts map[string]string, base uint64) error {
	page := preface
	for _, s := range listSections(base) {
		page += texts[s.title]
	}
	return os.WriteFile(report, []byte(page), 0o644)
}

// runCommands runs the commands of s and returns its text for the page. It returns an
// error if a command failed; the text contains that error too.
func (s section) runCommands() (string, error) {
	var page bytes.Buffer
	revision, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("read the revision: %w", err)
	}
	fmt.Fprintf(&page, "\n## %s\n\n%s\n", s.title, s.text)
	var failed []error
	for _, c := range s.commands {
		output, err := c.run()
		fmt.Fprintf(&page, "\n    %s\n\n```\n%s\n```\n", c.line, strings.TrimRight(output, "\n"))
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", c.line, err))
			fmt.Fprintf(&page, "\n**This failed:** %v\n", err)
		}
	}
	fmt.Fprintf(&page, "\n(%s, revision %s, %s, %d cores, %s/%s)\n",
		time.Now().UTC().Format("2 January 2006"), strings.TrimSpace(string(revision)), runtime.Version(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	return page.String(), errors.Join(failed...)
}

// Lines of go test itself, the position at the start of a log line, passed tests, and
// paths of temporary files.
var (
	goTestLine  = regexp.MustCompile(`^(=== |\s*--- |PASS$|FAIL$|ok\s|\?\s|goos: |goarch: |pkg: |cpu: |testing: warning: no tests to run|fuzz: elapsed: 0s|fuzz: \w+ing)`)
	logPosition = regexp.MustCompile(`^\s+\w+_test\.go:\d+: `)
	passedTest  = regexp.MustCompile(`^\s*--- PASS: (\S+)`)
	tempPath    = regexp.MustCompile(regexp.QuoteMeta(os.TempDir()) + `/\S+`)
)

// run runs c, copies its output to stderr, and returns the part that the page shows.
func (c command) run() (string, error) {
	fmt.Fprintf(os.Stderr, "\n$ %s\n", c.line)
	words, err := splitLine(c.line)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(words[0], append(words[1:], "-count=1")...)
	if strings.Contains(c.line, "-fuzz ") {
		cmd = exec.Command(words[0], words[1:]...)
	}
	var out bytes.Buffer
	cmd.Stdout = io.MultiWriter(&out, os.Stderr)
	cmd.Stderr = os.Stderr
	err = cmd.Run()
	var kept []string
	for line := range strings.Lines(out.String()) {
		line = strings.TrimRight(line, "\n")
		if c.passed {
			if found := passedTest.FindStringSubmatch(line); found != nil {
				kept = append(kept, "passed: "+found[1])
			}
			continue
		}
		if goTestLine.MatchString(line) || c.tables && logPosition.MatchString(line) {
			continue
		}
		kept = append(kept, tempPath.ReplaceAllString(logPosition.ReplaceAllString(line, ""), "…"))
	}
	if c.last && len(kept) > 0 {
		kept = kept[len(kept)-1:]
	}
	if err == nil && len(strings.Join(kept, "")) == 0 {
		err = errors.New("no output to show")
	}
	return strings.Join(kept, "\n"), err
}

// splitLine splits a command line at its spaces, except in single quotes. It returns an
// error for an unclosed quote.
func splitLine(line string) (words []string, err error) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	if strings.Count(line, "'")%2 != 0 {
		return nil, fmt.Errorf("unclosed quote: %s", strconv.Quote(line))
	}
	return words, nil
}

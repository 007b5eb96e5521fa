// Command proof writes docs/verification.md from real runs: it carries out what each section
// says, at full size, and puts down what that printed. It needs git and, for
// PostgreSQL, Debian's package of it; it takes the better part of an hour on two
// cores. What failed says so in the page, and is the command's exit code.
//
//	go run ./sim/proof              # writes docs/verification.md
//	go run ./sim/proof -only kills  # runs one section again, and puts it in its place
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
	only := flag.String("only", "", "the one section to run: the others stay as they are in "+report)
	base := flag.Uint64("base", uint64(time.Now().Unix()), "the first seed, and the seed of the kills")
	flag.Parse()
	if err := write(*only, *base); err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
		os.Exit(1)
	}
}

// A section is a claim and the commands that show it.
type section struct {
	name, title, text string
	commands          []command
}

// A command is what is run, as people would type it, and what is worth keeping
// of what it says: all but the words of go test, or only the names of the tests
// that passed, or only the last line.
type command struct {
	line   string
	passed bool
	last   bool
	tables bool // but what the test logs as it goes on
}

func sections(base uint64) []section {
	test := func(line string) command { return command{line: line} }
	fuzz := func(name, pkg string) command {
		return command{line: fmt.Sprintf("go test ./%s -run '^$' -fuzz '^%s$' -fuzztime 20s -fuzzminimizetime 10x", pkg, name), last: true}
	}
	return []section{
		{"seeds", "Ten thousand simulations", `Whole releases of generated projects meet generated trouble, in virtual time and in one process: the real
workflows, activities, client and planner; Fly, the workers, the people and the clock are drawn from the
seed. Each case is held to every guarantee of [ARCHITECTURE.md](../ARCHITECTURE.md#guarantees) while it
happens, and after it: the report is true, nothing is left on Fly, the environment can be released to
again, and a second release of the same revision finds nothing to do. A seed always goes the same way; one
that fails is shrunk to a few lines and kept in ` + "`sim/testdata/cases`" + `. The columns say how the first release of
the schedules with that trouble ended, and in how many of them a person was asked.`,
			[]command{test(fmt.Sprintf("go test ./sim -run Seeds -v -seeds 10000 -base %d -timeout 30m", base))}},
		{"mutants", "Do the checks bite?", `Each line is this program with one mistake in it, built by an overlay of its source, and the first seed at
which the simulation caught it. A mutant that lives for 2,000 seeds has to be
caught by a kept case, or fails the test.`,
			[]command{test("go test ./sim -run Mutants -v -timeout 2h")}},
		{"kills", "Two hundred kills", `The worker, the Temporal server and Fly's simulator are processes of their own and are killed with SIGKILL at
random while eight projects are released side by side: once with Temporal on a SQLite file, once with its
server on PostgreSQL. What a killed worker had in hand has to begin again within five seconds of the moment
at which Temporal misses its heartbeat: that is after 4 seconds for a step on a machine, 30 for what only
watches (a bake), and 10 for all else.`,
			[]command{{line: fmt.Sprintf("go test ./worker -run Kills -v -kills 200 -seed %d -timeout 40m", base), tables: true}}},
		{"activities", "A kill after every activity", `One release with a release command, as often as it has activities; each time the worker is killed just after
another of them had its effect, and before Temporal heard of it. Nothing is done twice.`,
			[]command{test("go test ./worker -run KilledAfterEveryActivity -v")}},
		{"upgrade", "Upgrades and replays", `A worker is replaced by a build with a changed workflow while a release waits at its gate, and in the middle
of a rollout; a change that nobody guarded is noticed, and nothing is lost. And every history that was
recorded is replayed: one for each ending, strategy and workflow.`,
			[]command{{line: "go test ./worker -run Upgrade -v", passed: true}, {line: "go test ./workflows -run Replay -v", passed: true}}},
		{"load", "Load", `A thousand releases wait at gates while fifty rollouts of twelve machines go on, on one worker and the embedded
server, each a process of its own.`,
			[]command{test("go test ./worker -run 'TestLoad$' -v -gates 1000 -rollouts 50 -timeout 25m"), test("go test ./worker -run ThousandMachines -v")}},
		{"soak", "Soak", `An hour's worth of releases, one after the other, through one worker: with real checkouts, tests, builds and
pushes, and Fly's latencies scaled down. What may grow is listed in [operating.md](operating.md#where-things-are-kept).`,
			[]command{test("go test ./worker -run Soak -v -releases 100 -timeout 25m")}},
		{"speed", "Speed", `One rollout in virtual time, within Fly's published limits, against the least that its strategy allows.`,
			[]command{test("go test -run '^$' -bench Rollout ./workflows")}},
		{"fuzz", "Bad input", `Malformed, truncated, huge and slow: files, decisions, and Fly's own answers. An error each time that says what
was wrong, never a panic, and no more memory than a bound.`,
			[]command{
				fuzz("FuzzParse", "fly/flytoml"), fuzz("FuzzUpdate", "fly/flytoml"), fuzz("FuzzLoad", "config"), fuzz("FuzzAnswers", "fly"), fuzz("FuzzDecisions", "workflows"),
				{line: "go test ./fly -run EndlessResponse -v", passed: true},
			}},
		{"security", "Tokens and hostile repositories", `A marker token is planted and looked for in all that is written: Temporal's database, histories, logs, errors and
output. And what a repository brings (paths with .., symlinks, submodules, hooks, ext:: remotes, names like
options) stays in its checkout.`,
			[]command{
				{line: "go test ./cmd/release -run 'TestScript/^(tokens|hostile|dev)$' -v", passed: true},
				{line: "go test ./image ./activities ./git -run 'HidesWorker|LeavesNoProcess|CodeOutsideCheckout|OutOfRepository' -v", passed: true},
			}},
	}
}

const preface = `# Verification

Nothing is lost, whatever dies: what that claim rests on. This page was written by a command, from the
runs that it tells of; each section says how to run it alone. Figures of time are those of that machine
on that day.

    go run ./sim/proof
`

// write runs the sections, or one, and writes the report after each.
func write(only string, base uint64) error {
	page, err := os.ReadFile(report)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	written := map[string]string{} // sections that are there already, by title
	for i, part := range strings.Split(string(page), "\n## ") {
		if title, _, ok := strings.Cut(part, "\n"); ok && i > 0 {
			written[title] = "\n## " + strings.TrimRight(part, "\n") + "\n"
		}
	}
	known, failed := false, []string{}
	for _, s := range sections(base) {
		if only != "" && s.name != only {
			continue
		}
		known = true
		text, err := s.run()
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", s.name, err))
		}
		written[s.title] = text
		if err := assemble(written, base); err != nil {
			return err
		}
	}
	if !known {
		return fmt.Errorf("there is no section %q", only)
	}
	if len(failed) > 0 {
		return errors.New("not all is well; mend it, and run what failed again with -only:\n" + strings.Join(failed, "\n"))
	}
	return nil
}

// assemble writes the page of what was written so far.
func assemble(written map[string]string, base uint64) error {
	page := preface
	for _, s := range sections(base) {
		page += written[s.title]
	}
	return os.WriteFile(report, []byte(page), 0o644)
}

// run is the section as it stands in the page. An error is of what failed, and
// stands there, too.
func (s section) run() (string, error) {
	var page bytes.Buffer
	revision, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("which revision is this? %w", err)
	}
	fmt.Fprintf(&page, "\n## %s\n\n%s\n", s.title, s.text)
	var failed []error
	for _, c := range s.commands {
		said, err := c.run()
		fmt.Fprintf(&page, "\n    %s\n\n```\n%s\n```\n", c.line, strings.TrimRight(said, "\n"))
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", c.line, err))
			fmt.Fprintf(&page, "\n**This failed:** %v\n", err)
		}
	}
	fmt.Fprintf(&page, "\n(%s, revision %s, %s, %d cores, %s/%s)\n",
		time.Now().UTC().Format("2 January 2006"), strings.TrimSpace(string(revision)), runtime.Version(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	return page.String(), errors.Join(failed...)
}

// What go test itself says, and the place that a log line begins with.
var (
	framework = regexp.MustCompile(`^(=== |\s*--- |PASS$|FAIL$|ok\s|\?\s|goos: |goarch: |pkg: |cpu: |testing: warning: no tests to run|fuzz: elapsed: 0s|fuzz: \w+ing)`)
	logPlace  = regexp.MustCompile(`^\s+\w+_test\.go:\d+: `)
	pass      = regexp.MustCompile(`^\s*--- PASS: (\S+)`)
	temporary = regexp.MustCompile(regexp.QuoteMeta(os.TempDir()) + `/\S+`)
)

// run carries c out, shows what it says, and returns what of that is to be kept.
func (c command) run() (string, error) {
	fmt.Fprintf(os.Stderr, "\n$ %s\n", c.line)
	words, err := split(c.line)
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
			if found := pass.FindStringSubmatch(line); found != nil {
				kept = append(kept, "passed: "+found[1])
			}
			continue
		}
		if framework.MatchString(line) || c.tables && logPlace.MatchString(line) {
			continue
		}
		kept = append(kept, temporary.ReplaceAllString(logPlace.ReplaceAllString(line, ""), "…"))
	}
	if c.last && len(kept) > 0 {
		kept = kept[len(kept)-1:]
	}
	if err == nil && len(strings.Join(kept, "")) == 0 {
		err = errors.New("it said nothing that could be shown")
	}
	return strings.Join(kept, "\n"), err
}

// split takes a line apart at its spaces, but for those in single quotes.
func split(line string) (words []string, err error) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	if strings.Count(line, "'")%2 != 0 {
		return nil, fmt.Errorf("a quote is open: %s", strconv.Quote(line))
	}
	return words, nil
}

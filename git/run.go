package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What can be wrong with a question, rather than with the world: trying again
// will not help.
var (
	ErrNotRepository = errors.New("not a git repository")
	ErrUnknown       = errors.New("unknown revision")
	ErrUnsafe        = errors.New("refused")
	ErrAmbiguous     = errors.New("ambiguous name")
)

// An Error is a git command that ended badly, with what git said. Most of them
// are about the network, and may be gone the next time.
type Error struct {
	Command string // fetch, archive, …
	Words   string // what git said, without passwords in addresses
	Err     error  // the exit code, or why git did not run
}

func (e *Error) Error() string {
	if errors.Is(e.Err, exec.ErrNotFound) {
		return "git is not installed, or not in PATH"
	}
	if e.Words == "" {
		return fmt.Sprintf("git %s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("git %s: %s", e.Command, e.Words)
}

func (e *Error) Unwrap() error { return e.Err }

// always holds for every git: nothing that a repository brings is run.
var always = []string{
	"-c", "core.hooksPath=/dev/null",
	"-c", "core.fsmonitor=false",
	"-c", "protocol.ext.allow=never",
	"-c", "submodule.recurse=false",
	"-c", "fetch.recurseSubmodules=false",
	"-c", "gc.autoDetach=false",
	"-c", "maintenance.autoDetach=false",
	"-c", "advice.detachedHead=false",
}

// exact makes files in a checkout the bytes that were committed, whatever the
// machine's settings are.
var exact = []string{
	"-c", "filter.lfs.smudge=", "-c", "filter.lfs.process=", "-c", "filter.lfs.clean=", "-c", "filter.lfs.required=false",
	"-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null",
}

// kept are the variables git may see: where programs and settings are, and how
// to reach a remote. GIT_DIR and its kin would point it elsewhere, and tokens
// are not its business.
var kept = []string{
	"PATH", "HOME", "TMPDIR", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND",
	"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_SSL_CAINFO",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy",
}

// A command is one git to run. Its zero value has no input and the person's own
// settings.
type command struct {
	dir    string
	args   []string
	stdin  io.Reader
	stdout io.Writer
	own    bool // without the machine's settings: only what this package says
}

// output runs git and returns what it printed.
func output(ctx context.Context, dir string, args ...string) (string, error) {
	var b bytes.Buffer
	err := command{dir: dir, args: args, stdout: &b}.run(ctx)
	return b.String(), err
}

// line is output of one line.
func line(ctx context.Context, dir string, args ...string) (string, error) {
	s, err := output(ctx, dir, args...)
	return strings.TrimRight(s, "\n"), err
}

// run runs git in a process group of its own, so that what it started ends
// with it. An error is an *Error, or ctx's.
func (c command) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "git", slices.Concat(always, c.settings(), c.args)...)
	cmd.Dir = c.dir
	cmd.Env = c.env()
	cmd.Stdin = c.stdin
	cmd.Stdout = c.stdout
	words := &tail{max: 8 << 10}
	cmd.Stderr = words
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("git %s: %w", c.args[0], context.Cause(ctx))
	}
	return &Error{Command: c.args[0], Words: plain(words.String()), Err: err}
}

func (c command) settings() []string {
	if c.own {
		return exact
	}
	return nil
}

func (c command) env() []string {
	env := []string{
		"LC_ALL=C",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_ALLOW_PROTOCOL=file:https:ssh",
		"GIT_LFS_SKIP_SMUDGE=1",
		"GIT_OPTIONAL_LOCKS=0",
	}
	for _, key := range kept {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	if os.Getenv("GIT_SSH_COMMAND") == "" {
		env = append(env, "GIT_SSH_COMMAND=ssh -o BatchMode=yes") // a question would wait for ever
	}
	if c.own {
		env = append(env, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_ATTR_NOSYSTEM=1")
	}
	return env
}

var (
	password = regexp.MustCompile(`://[^/@\s]+@`)
	severity = regexp.MustCompile(`(?m)^(fatal|error|remote): `)
)

// plain is what git said, in one paragraph and without passwords.
func plain(words string) string {
	words = password.ReplaceAllString(words, "://…@")
	words = severity.ReplaceAllString(words, "")
	return strings.Join(strings.Fields(words), " ")
}

// A tail keeps the last max bytes written to it.
type tail struct {
	b   []byte
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - t.max; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }

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
	"time"

	"github.com/microbima/release/internal/procgroup"
)

// Permanent errors: a retry with the same arguments fails the same way. Test with
// errors.Is.
var (
	ErrNotRepository = errors.New("not a git repository")
	ErrUnknown       = errors.New("unknown revision")
	ErrUnsafe        = errors.New("refused")
	ErrAmbiguous     = errors.New("ambiguous name")
)

// An Error is a git command that failed. Most of them are network errors, which a
// retry may get past.
type Error struct {
	Command string // fetch, rev-parse, …
	Stderr  string // what git printed, as one paragraph, without passwords in addresses
	Err     error  // the exit code, or why git did not run
}

func (e *Error) Error() string {
	if errors.Is(e.Err, exec.ErrNotFound) {
		return "git is not installed, or not in PATH"
	}
	if e.Stderr == "" {
		return fmt.Sprintf("git %s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("git %s: %s", e.Command, e.Stderr)
}

func (e *Error) Unwrap() error { return e.Err }

// safeConfig is passed to every git command, so that none runs a program that a
// repository names.
var safeConfig = []string{
	"-c", "core.hooksPath=/dev/null",
	"-c", "core.fsmonitor=false",
	"-c", "protocol.ext.allow=never",
	"-c", "submodule.recurse=false",
	"-c", "fetch.recurseSubmodules=false",
	"-c", "gc.autoDetach=false",
	"-c", "maintenance.autoDetach=false",
	"-c", "advice.detachedHead=false",
}

// verbatimConfig makes git write the committed bytes into a checkout, whatever
// the settings of the machine are.
var verbatimConfig = []string{
	"-c", "filter.lfs.smudge=", "-c", "filter.lfs.process=", "-c", "filter.lfs.clean=", "-c", "filter.lfs.required=false",
	"-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null",
}

// allowedEnv lists the env vars that are passed on to git: where programs and
// settings are, and how to reach a remote. GIT_DIR and similar ones would point
// git at another repository. Tokens are not passed on.
var allowedEnv = []string{
	"PATH", "HOME", "TMPDIR", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND",
	"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_SSL_CAINFO",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy",
}

// A command is one run of git. The zero value has no input and uses the user's
// git settings.
type command struct {
	dir      string
	args     []string
	stdin    io.Reader
	stdout   io.Writer
	isolated bool // ignore the user's and the machine's git settings
}

// output runs git in dir and returns its output.
func output(ctx context.Context, dir string, args ...string) (string, error) {
	return command{dir: dir, args: args}.output(ctx)
}

// outputLine runs git in dir and returns its output without the final newline.
func outputLine(ctx context.Context, dir string, args ...string) (string, error) {
	s, err := output(ctx, dir, args...)
	return strings.TrimRight(s, "\n"), err
}

// output runs git and returns its output.
func (c command) output(ctx context.Context) (string, error) {
	var b bytes.Buffer
	c.stdout = &b
	err := c.run(ctx)
	return b.String(), err
}

// run runs git. When ctx ends, git is killed, and where the system has process
// groups, so are the processes that it started. The error is an *Error, or the
// cause of ctx.
func (c command) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "git", slices.Concat(safeConfig, c.config(), c.args)...)
	cmd.Dir = c.dir
	cmd.Env = c.env()
	cmd.Stdin = c.stdin
	cmd.Stdout = c.stdout
	stderr := &tailBuffer{max: 8 << 10}
	cmd.Stderr = stderr
	procgroup.Set(cmd)
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("git %s: %w", c.args[0], context.Cause(ctx))
	}
	return &Error{Command: c.args[0], Stderr: cleanText(stderr.String()), Err: err}
}

func (c command) config() []string {
	if c.isolated {
		return verbatimConfig
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
	for _, key := range slices.Concat(allowedEnv, systemEnv) {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	if os.Getenv("GIT_SSH_COMMAND") == "" {
		env = append(env, "GIT_SSH_COMMAND=ssh -o BatchMode=yes") // a prompt would block forever
	}
	if c.isolated {
		env = append(env, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_ATTR_NOSYSTEM=1")
	}
	return env
}

var (
	loginPattern    = regexp.MustCompile(`://[^/@\s]+@`)
	severityPattern = regexp.MustCompile(`(?m)^(fatal|error|remote): `)
)

// cleanText returns git's output as one paragraph, without logins in addresses.
func cleanText(text string) string {
	text = loginPattern.ReplaceAllString(text, "://…@")
	text = severityPattern.ReplaceAllString(text, "")
	return strings.Join(strings.Fields(text), " ")
}

// A tailBuffer keeps the last max bytes written to it.
type tailBuffer struct {
	b   []byte
	max int
}

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - t.max; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tailBuffer) String() string { return string(t.b) }

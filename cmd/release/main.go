// Release takes a git revision through the environments of its repository on
// Fly.io, and restores an environment exactly as it was when a step fails.
//
// The commands are in internal/cli; release dev and release demo in
// internal/localstack. The build tag slim leaves those two out.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/microbima/release/image"
	"github.com/microbima/release/internal/cli"
)

func main() { os.Exit(program()) }

// program is the whole process. It takes the world from the operating system; nothing
// below it does.
func program() int {
	if image.IsCompilerProcess() {
		return image.RunCompiler(os.Stdin, os.Stdout)
	}
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup: it outlives its terminal
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release: the current directory:", err)
		return cli.ExitFailed
	}
	return cli.Run(ctx, &cli.World{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Env: os.Environ(), Self: commandName(), Dir: dir, Now: time.Now,
		Terminal: cli.Terminal{
			Stdout: isTerminal(os.Stdout), Stderr: isTerminal(os.Stderr),
			CanAsk: isTerminal(os.Stdin) && isTerminal(os.Stderr), Size: terminalSize,
		},
	}, localCommands)
}

// commandName returns what to type in another terminal to call this program.
func commandName() string {
	path, err := os.Executable()
	if err != nil {
		return "release"
	}
	if strings.Contains(path, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/release"
	}
	installed, err := exec.LookPath("release")
	if err != nil {
		return path
	}
	this, err1 := os.Stat(path)
	other, err2 := os.Stat(installed)
	if err1 == nil && err2 == nil && os.SameFile(this, other) {
		return "release"
	}
	return path
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// terminalSize returns the size of the terminal behind w, or zero.
func terminalSize(w io.Writer) (width, height int) {
	file, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	width, height, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// Release takes a git revision through the environments of its repository on
// Fly.io, and brings an environment back exactly as it was when a step fails.
//
// Start reading at root.go; then one file per command.
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
)

func main() { os.Exit(program()) }

// program is the whole process: it takes the world from the operating system,
// and nothing below it does.
func program() int {
	if image.IsCompilerProcess() {
		return image.RunCompiler(os.Stdin, os.Stdout)
	}
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup: it outlives its terminal
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	// Who asks twice does not want to wait for the end of what is in hand.
	context.AfterFunc(ctx, stop)
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release: the current directory:", err)
		return exitFailed
	}
	return run(ctx, &env{
		args: os.Args[1:], stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		environ: os.Environ(), self: self(), dir: dir, now: time.Now,
		outTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		errTerminal: term.IsTerminal(int(os.Stderr.Fd())),
		asks:        term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd())),
		size:        size,
	})
}

// self is what to type in another terminal to call this program.
func self() string {
	path, err := os.Executable()
	if err != nil {
		return "release"
	}
	if strings.Contains(path, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/release"
	}
	known, err := exec.LookPath("release")
	if err != nil {
		return path
	}
	here, err1 := os.Stat(path)
	there, err2 := os.Stat(known)
	if err1 == nil && err2 == nil && os.SameFile(here, there) {
		return "release"
	}
	return path
}

// size is that of the terminal behind w, or zero.
func size(w io.Writer) (width, height int) {
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

package activities

import (
	"io"
	"os"
	"os/exec"
	"time"
)

// lastWords is how long output is still read when a process ended and one that
// it started, and that left its group, does not.
const lastWords = 5 * time.Second

// runGroup runs cmd as the head of a process group and writes what the group
// says to out. When cmd ends, by itself or with its context, so does all of the
// group: a server that a test has left in the background, for instance.
func runGroup(cmd *exec.Cmd, out io.Writer) error {
	read, write, err := os.Pipe() // of ours: one of cmd's would be waited for
	if err != nil {
		return err
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, write
	ownGroup(cmd)
	err = cmd.Start()
	write.Close()
	if err != nil {
		return err
	}
	said := make(chan error, 1)
	go func() { _, err := io.Copy(out, read); said <- err }()
	err = cmd.Wait()
	_ = endGroup(cmd) // mostly there is none any more
	_ = read.SetReadDeadline(time.Now().Add(lastWords))
	if lost := <-said; err == nil && !os.IsTimeout(lost) {
		err = lost
	}
	return err
}

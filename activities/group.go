package activities

import (
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/microbima/release/internal/procgroup"
)

// outputDelay is how long output is still read after a process has ended while another
// one, which it started and which left its group, has not.
const outputDelay = 5 * time.Second

// runGroup runs cmd as the head of a process group and writes the output of the group to
// out. When cmd ends, by itself or with its context, the whole group is ended: a server
// that a test has left in the background, for instance.
func runGroup(cmd *exec.Cmd, out io.Writer) error {
	read, write, err := os.Pipe() // cmd.Wait would wait for a pipe of cmd
	if err != nil {
		return err
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, write
	procgroup.Set(cmd)
	err = cmd.Start()
	write.Close()
	if err != nil {
		return err
	}
	copied := make(chan error, 1)
	go func() { _, err := io.Copy(out, read); copied <- err }()
	err = cmd.Wait()
	_ = procgroup.Kill(cmd) // usually there is none any more
	_ = read.SetReadDeadline(time.Now().Add(outputDelay))
	if copyErr := <-copied; err == nil && !os.IsTimeout(copyErr) {
		err = copyErr
	}
	return err
}

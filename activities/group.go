package activities

import (
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/microbima/release/internal/procgroup"
)

// outputDelay is how long output is read after a process has ended while a process that
// left its group still writes.
const outputDelay = 5 * time.Second

// runGroup runs cmd as the leader of a process group and writes the output of the group
// to out. When cmd ends, on its own or with its context, it kills the whole group,
// including servers that a test left in the background.
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
	_ = procgroup.Kill(cmd) // usually the group has no process left
	_ = read.SetReadDeadline(time.Now().Add(outputDelay))
	if copyErr := <-copied; err == nil && !os.IsTimeout(copyErr) {
		err = copyErr
	}
	return err
}

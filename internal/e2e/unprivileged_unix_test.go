//go:build unix

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// runUnprivileged makes cmd run as another user than root and gives dir to that user,
// because PostgreSQL refuses to run as root.
func runUnprivileged(cmd *exec.Cmd, dir string) error {
	if os.Getuid() != 0 {
		return nil
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		who, err = user.Lookup("nobody")
	}
	if err != nil {
		return fmt.Errorf("nobody to run PostgreSQL: %w", err)
	}
	uid, wrongUID := strconv.ParseUint(who.Uid, 10, 32)
	gid, wrongGID := strconv.ParseUint(who.Gid, 10, 32)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return errors.Join(wrongUID, wrongGID, os.Chown(dir, int(uid), int(gid)))
}

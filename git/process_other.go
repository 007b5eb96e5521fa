//go:build !unix

package git

import "os/exec"

// systemEnv lists the env vars that git needs on Windows: where its settings,
// its temporary files and other programs are.
var systemEnv = []string{
	"SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "TEMP", "TMP",
	"USERPROFILE", "HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA",
}

// killWithChildren leaves cmd as it is: its cancellation kills git alone, because
// this system has no process groups. Children of git end when their pipes close.
func killWithChildren(*exec.Cmd) {}

//go:build !unix

package git

// systemEnv lists the env vars that git needs on Windows: where its settings,
// its temporary files and other programs are.
var systemEnv = []string{
	"SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "TEMP", "TMP",
	"USERPROFILE", "HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA",
}

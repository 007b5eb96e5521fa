package localrunner

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/microbima/release/fly/flysim"
)

// defaultPath is what Linux images that set no PATH are run with.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// A machineConfig is what running a machine needs of its config.
type machineConfig struct {
	Image string            `json:"image"`
	Env   map[string]string `json:"env"`
	Init  struct {
		Exec       []string `json:"exec"`
		Entrypoint []string `json:"entrypoint"`
		Cmd        []string `json:"cmd"`
	} `json:"init"`
	Guest struct {
		MemoryMB int `json:"memory_mb"`
	} `json:"guest"`
	Files      []json.RawMessage `json:"files"`
	Mounts     []json.RawMessage `json:"mounts"`
	Processes  []json.RawMessage `json:"processes"`
	Containers []json.RawMessage `json:"containers"`
}

// A launch is everything that decides how a machine's process is started.
type launch struct {
	machine flysim.Instance
	config  machineConfig
	image   *image
	port    int
	scratch string // an empty folder for this start
	marker  string // NAME=value by which every descendant can be recognised
	// url is the address of another app.
	url func(app string) string
}

// command is the process to start, ready but for where its output goes.
func (l launch) buildCommand() (*exec.Cmd, error) {
	env := l.environment()
	words := l.commandLine()
	if len(words) == 0 {
		return nil, fmt.Errorf("image %s has neither entrypoint nor cmd, and the machine's config has no init: say what to run in [processes] or in the Dockerfile", l.config.Image)
	}
	path, err := l.image.findExecutable(words[0], env["PATH"])
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", l.config.Image, err)
	}
	for i, word := range words {
		if here, ok := l.image.localPath(word); ok {
			words[i] = here
		}
	}
	cmd := &exec.Cmd{Path: path, Args: words, Dir: l.image.workingDir(), Env: []string{l.marker}}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, name+"="+env[name])
	}
	return cmd, nil
}

// words is the command line: exec stands for all of it, entrypoint and cmd each
// for their own part of the image's.
func (l launch) commandLine() []string {
	if len(l.config.Init.Exec) > 0 {
		return slices.Clone(l.config.Init.Exec)
	}
	entrypoint, cmd := l.image.config.Entrypoint, l.image.config.Cmd
	if len(l.config.Init.Entrypoint) > 0 {
		entrypoint = l.config.Init.Entrypoint
	}
	if len(l.config.Init.Cmd) > 0 {
		cmd = l.config.Init.Cmd
	}
	return slices.Concat(entrypoint, cmd)
}

// env is the whole environment: of this program's own, which may hold tokens,
// nothing. Later ones win: the image's, the machine's, secrets, Fly's, and what
// only a laptop needs.
func (l launch) environment() map[string]string {
	env := map[string]string{"PATH": defaultPath}
	for _, pair := range l.image.config.Env {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = l.image.replacePaths(value)
	}
	env["HOME"], env["TMPDIR"] = l.scratch, l.scratch
	for name, value := range l.config.Env {
		env[name] = replacePrivateURLs(value, l.url)
	}
	for name, value := range l.machine.Secrets {
		env[name] = replacePrivateURLs(value, l.url)
	}
	maps.Copy(env, l.flyVars())
	env["PORT"] = strconv.Itoa(l.port)
	switch env["HOST"] {
	case "", "0.0.0.0", "::", "[::]":
		env["HOST"] = "127.0.0.1"
	}
	return env
}

// fly is what Fly tells every machine about itself.
func (l launch) flyVars() map[string]string {
	m := l.machine
	env := map[string]string{
		"FLY_APP_NAME":        m.App,
		"FLY_MACHINE_ID":      m.ID,
		"FLY_ALLOC_ID":        m.ID,
		"FLY_MACHINE_VERSION": m.InstanceID,
		"FLY_REGION":          m.Region,
		"FLY_PROCESS_GROUP":   m.Group,
		"FLY_IMAGE_REF":       l.config.Image,
		"FLY_PRIVATE_IP":      "127.0.0.1",
	}
	if l.config.Guest.MemoryMB > 0 {
		env["FLY_VM_MEMORY_MB"] = strconv.Itoa(l.config.Guest.MemoryMB)
	}
	return env
}

// missing says, for the machine's log, what its config asks for in vain.
func (c machineConfig) unsupportedLines() []string {
	var lines []string
	for what, there := range map[string]bool{
		"[mounts]":                 len(c.Mounts) > 0,
		"[[files]]":                len(c.Files) > 0,
		"processes and containers": len(c.Processes)+len(c.Containers) > 0,
	} {
		if there {
			lines = append(lines, "flysim: "+what+" of the machine's config are not there on a laptop")
		}
	}
	slices.Sort(lines)
	return lines
}

// privateURL is the address of an app on Fly's private network: the app is the
// last label, before it may stand a region, a machine or a group.
var privateURL = regexp.MustCompile(`http://(?:[a-z0-9-]+\.)*([a-z0-9][a-z0-9-]*)\.(?:internal|flycast)(?::[0-9]+)?($|[^A-Za-z0-9.:_-])`)

// reroute replaces the addresses of apps on the private network, which a laptop
// does not have, by those of their edges.
func replacePrivateURLs(value string, url func(app string) string) string {
	return privateURL.ReplaceAllStringFunc(value, func(found string) string {
		parts := privateURL.FindStringSubmatch(found)
		edge := url(parts[1])
		if edge == "" {
			return found
		}
		return edge + parts[2]
	})
}

// relocate replaces paths of the image, in a value such as PATH's, by where they
// lie on this machine.
func (i *image) replacePaths(value string) string {
	parts := strings.Split(value, ":")
	for n, part := range parts {
		if here, ok := i.localPath(part); ok {
			parts[n] = here
		}
	}
	return strings.Join(parts, ":")
}

// executable finds the program that word means to the image: never one of the
// laptop's own.
func (i *image) findExecutable(word, path string) (string, error) {
	var candidates []string
	switch {
	case strings.HasPrefix(word, "/"):
		candidates = []string{word}
	case strings.Contains(word, "/"):
		candidates = []string{filepath.Join("/", i.config.WorkingDir, word)}
	default:
		for _, dir := range filepath.SplitList(path) {
			dir = "/" + strings.TrimPrefix(strings.TrimPrefix(dir, i.root), "/")
			candidates = append(candidates, filepath.Join(dir, word))
		}
	}
	for _, candidate := range candidates {
		here, ok := i.localPath(candidate)
		if !ok {
			continue
		}
		info, err := os.Stat(here)
		if err != nil || info.IsDir() {
			continue
		}
		if info.Mode()&0o111 == 0 {
			return "", fmt.Errorf("%s is not executable: chmod +x it in the build", candidate)
		}
		return here, nil
	}
	if len(candidates) == 1 {
		return "", fmt.Errorf("it has no program %s", candidates[0])
	}
	return "", fmt.Errorf("it has no program %s in its PATH", word)
}

// refusal says in words for people why the system would not start a program
// that is there.
func explainStartError(ref, program string, err error) error {
	here := runtime.GOOS + "/" + runtime.GOARCH
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("image %s: %s is not a program for %s: build it for that", ref, program, here)
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("image %s: %s needs a loader or interpreter that this machine lacks: link it statically (CGO_ENABLED=0)", ref, program)
	}
	return fmt.Errorf("image %s: start %s: %w", ref, program, err)
}

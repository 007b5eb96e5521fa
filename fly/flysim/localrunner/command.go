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

// defaultPath is the PATH of Linux images that set none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// A machineConfig is the part of a machine config that is needed to run it.
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

// A launch has everything that determines how a machine's process is started.
type launch struct {
	machine flysim.Instance
	config  machineConfig
	image   *image
	port    int
	scratch string // an empty folder for this start
	marker  string // NAME=value in the environment of the process and all its descendants
	// url returns the URL of another app.
	url func(app string) string
}

// buildCommand returns the command to start, without its output.
func (l launch) buildCommand() (*exec.Cmd, error) {
	env := l.environment()
	words := l.commandLine()
	if len(words) == 0 {
		return nil, fmt.Errorf("image %s has neither entrypoint nor cmd, and the machine's config has no init: set a command in [processes] or in the Dockerfile", l.config.Image)
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

// commandLine returns the words of the command: exec replaces all of the
// image's command, entrypoint and cmd their part of it.
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

// environment returns the complete environment. It takes nothing from this
// program's own, which may contain tokens. Later sources win: the image, the
// machine's config, secrets, Fly, and settings that only a local process needs.
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

// flyVars returns the env vars that Fly sets on every machine.
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

// unsupportedLines returns a line for the machine's log about each part of the
// config that has no effect here.
func (c machineConfig) unsupportedLines() []string {
	var lines []string
	for part, isSet := range map[string]bool{
		"[mounts]":                 len(c.Mounts) > 0,
		"[[files]]":                len(c.Files) > 0,
		"processes and containers": len(c.Processes)+len(c.Containers) > 0,
	} {
		if isSet {
			lines = append(lines, "flysim: "+part+" of the machine's config have no effect in a local run")
		}
	}
	slices.Sort(lines)
	return lines
}

// privateURL matches the address of an app on Fly's private network: the app is
// the last label; a region, a machine or a group may precede it.
var privateURL = regexp.MustCompile(`http://(?:[a-z0-9-]+\.)*([a-z0-9][a-z0-9-]*)\.(?:internal|flycast)(?::[0-9]+)?($|[^A-Za-z0-9.:_-])`)

// replacePrivateURLs replaces addresses of apps on the private network, which
// does not exist locally, by the URLs of their proxies.
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

// replacePaths replaces paths of the image, in a value such as PATH, by their
// location on this computer.
func (i *image) replacePaths(value string) string {
	parts := strings.Split(value, ":")
	for n, part := range parts {
		if here, ok := i.localPath(part); ok {
			parts[n] = here
		}
	}
	return strings.Join(parts, ":")
}

// findExecutable returns the program that word names in the image: never one of
// this computer's own.
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

// explainStartError returns err with the reason why the operating system did
// not start an existing program.
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

package flytoml

import (
	"fmt"
	"slices"
	"time"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

// A Problem is one mistake at a file, line and key.
type Problem = tomldoc.Problem

// Problems is the error of Parse: every mistake in the file, in order of lines.
type Problems = tomldoc.Problems

// Warnings are problems that don't prevent the file from being used.
type Warnings = tomldoc.Problems

// DefaultGroup is the process group of a file without [processes].
const DefaultGroup = "app"

// A Config is a valid fly.toml.
type Config struct {
	file          string
	doc           *tomldoc.Doc
	app           string
	region        string
	host          string // host_dedication_id
	groups        []string
	commands      map[string][]string
	env           map[string]string
	deploy        Deploy
	build         Build
	services      []service
	checks        []check
	machineChecks []testCommand
	mounts        []Mount
	files         []file
	statics       []*fly.Static
	metrics       []metrics
	restarts      []restart
	vms           []vm
	stop          *fly.StopConfig
	swap          *int

	cmd, entrypoint, exec []string // [experimental]

	machineConfig    string // JSON, or the name of a file with it
	machineConfigKey string // key of the setting
	container        string // the container that runs our image
	localContent     map[string][]byte
	localFiles       []LocalFile
}

// Deploy is the [deploy] section with its defaults.
type Deploy struct {
	Strategy       string
	MaxUnavailable float64       // below 1 a share of a group's running machines, else a number of machines
	Wait           time.Duration // until one machine is started and healthy
	ReleaseCommand []string      // split into words; nil if there is none
	ReleaseTimeout time.Duration
	releaseVM      *fly.MachineGuest
}

// Build is the [build] section: how flyctl gets an image.
type Build struct {
	Image      string
	Dockerfile string // as written: relative to fly.toml, or to the working directory of flyctl
	Ignorefile string
	Target     string
	Args       map[string]string
	Builder    string
	Buildpacks []string
}

// A Mount is a volume that each machine of a group has.
type Mount struct {
	fly.MachineMount
	InitialSizeGB int   // size of a new volume, as in the file; 0: the default of GroupMachines.Volume
	Retention     int   // days a snapshot is kept; 0: Fly's default
	Snapshots     *bool // daily ones; nil: Fly's default
	processes     []string
}

// A LocalFile is a file beside fly.toml whose content becomes part of machine
// configs. Key is the setting that names it.
type LocalFile struct {
	Name string
	Key  string
}

type file struct {
	fly.File
	local string
}

type service struct {
	fly.MachineService
	processes []string
	path      string
}

type check struct {
	fly.MachineCheck
	name      string
	processes []string
}

type metrics struct {
	*fly.MachineMetrics // nil: an empty section
	processes           []string
}

type restart struct {
	fly.MachineRestart
	processes []string
}

type vm struct {
	fly.MachineGuest
	processes []string
}

// App returns the name of the Fly app.
func (c *Config) App() string { return c.app }

// Region returns the region of new machines; "" leaves it to Fly.
func (c *Config) Region() string { return c.region }

// Strategy returns rolling, canary, bluegreen or immediate; the default is
// rolling.
func (c *Config) Strategy() string { return c.deploy.Strategy }

// MaxUnavailable returns how many machines of a group may be down at once:
// below 1 a share of the running ones, else a number. The default is flyctl's,
// 0.33.
func (c *Config) MaxUnavailable() float64 { return c.deploy.MaxUnavailable }

// Wait returns how long one machine may take until it is started and healthy.
func (c *Config) Wait() time.Duration { return c.deploy.Wait }

// Deploy returns the whole [deploy] section.
func (c *Config) Deploy() Deploy { return c.deploy }

// Build returns the [build] section.
func (c *Config) Build() Build { return c.build }

// LocalFiles returns the files whose content Group needs, each once. Pass the
// content to WithFiles and call LocalFiles again: a machine_config in a file
// may name more.
func (c *Config) LocalFiles() (files []LocalFile) {
	add := func(f LocalFile) {
		if !slices.ContainsFunc(files, func(have LocalFile) bool { return have.Name == f.Name }) {
			files = append(files, f)
		}
	}
	for _, f := range c.localFiles {
		add(f)
	}
	for _, name := range c.containerFiles() {
		add(LocalFile{Name: name, Key: c.machineConfigKey})
	}
	return files
}

// WithFiles returns a copy of c with the content of local files, by their names
// in fly.toml.
func (c *Config) WithFiles(content map[string][]byte) *Config {
	with := *c
	with.localContent = content
	return &with
}

// Problem returns a mistake at a key of this file, for a caller that finds one
// which Parse can't: a file that does not exist, for example.
func (c *Config) Problem(key, format string, args ...any) *Problem {
	return &Problem{File: c.file, Line: c.doc.Line(key), Key: key, Msg: fmt.Sprintf(format, args...)}
}

// defaultGroup returns the group of a section without processes.
func (c *Config) defaultGroup() string {
	if slices.Contains(c.groups, DefaultGroup) {
		return DefaultGroup
	}
	return c.groups[0]
}

func (c *Config) appliesTo(group string, processes []string) bool {
	if len(processes) == 0 {
		return group == c.defaultGroup()
	}
	return slices.Contains(processes, group)
}

func (c *Config) servicesOf(group string) (services []fly.MachineService) {
	for _, s := range c.services {
		if c.appliesTo(group, s.processes) {
			services = append(services, s.MachineService)
		}
	}
	return services
}

func (c *Config) mountsOf(group string) (mounts []Mount) {
	for _, m := range c.mounts {
		if c.appliesTo(group, m.processes) {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

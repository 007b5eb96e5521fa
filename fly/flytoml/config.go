package flytoml

import (
	"fmt"
	"slices"
	"time"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

// A Problem is one mistake, at file:line: key.
type Problem = tomldoc.Problem

// Problems is the error of Parse: every mistake of the file, in its order.
type Problems = tomldoc.Problems

// Warnings are oddities that don't keep a file from being used.
type Warnings = tomldoc.Problems

// DefaultGroup is the process group of a file without [processes].
const DefaultGroup = "app"

// A Config is a fly.toml that has been read and found good.
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
	machineConfigKey string // where it is said
	container        string // which of its containers runs our image
	localContent     map[string][]byte
	localFiles       []LocalFile
}

// Deploy is the [deploy] section, defaults filled in.
type Deploy struct {
	Strategy       string
	MaxUnavailable float64       // below 1 a share of a group's running machines, else a number
	Wait           time.Duration // for one machine to be started and healthy
	ReleaseCommand []string      // split as a shell would; nil if there is none
	ReleaseTimeout time.Duration
	releaseVM      *fly.MachineGuest
}

// Build is the [build] section: how flyctl would come by an image.
type Build struct {
	Image      string
	Dockerfile string // as written: relative to the fly.toml, or to where flyctl is run
	Ignorefile string
	Target     string
	Args       map[string]string
	Builder    string
	Buildpacks []string
}

// A Mount is a volume that each machine of a group has.
type Mount struct {
	fly.MachineMount
	InitialSizeGB int   // of a volume that is still to be made, as the file says; see Config.Volume for the default
	Retention     int   // days a snapshot is kept; 0: Fly's default
	Snapshots     *bool // daily ones; nil: Fly's default
	processes     []string
}

// A LocalFile is a file beside fly.toml whose content goes into machine
// configs. Key says where it is named.
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
	*fly.MachineMetrics // nil: a section that says nothing
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

// App is the name of the Fly app.
func (c *Config) App() string { return c.app }

// Region is where new machines go; "" leaves it to Fly.
func (c *Config) Region() string { return c.region }

// Strategy is rolling, canary, bluegreen or immediate; rolling if the file
// doesn't say.
func (c *Config) Strategy() string { return c.deploy.Strategy }

// MaxUnavailable is how many machines of a group may be down at once: below 1
// a share of the running ones, else a number. flyctl's default, 0.33.
func (c *Config) MaxUnavailable() float64 { return c.deploy.MaxUnavailable }

// Wait is how long one machine may take to be started and healthy.
func (c *Config) Wait() time.Duration { return c.deploy.Wait }

// Deploy is the whole [deploy] section.
func (c *Config) Deploy() Deploy { return c.deploy }

// Build is the [build] section.
func (c *Config) Build() Build { return c.build }

// LocalFiles are the files whose content is needed before a machine config can
// be made, each once. Give it with WithFiles, and ask again: a machine_config
// in a file of its own may name more.
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

// WithFiles returns c with the content of local files, by the name that
// fly.toml calls them.
func (c *Config) WithFiles(content map[string][]byte) *Config {
	with := *c
	with.localContent = content
	return &with
}

// Problem is one more mistake at a key of this file, for who knows more of it
// than the file says: whether another file exists, say.
func (c *Config) Problem(key, format string, args ...any) *Problem {
	return &Problem{File: c.file, Line: c.doc.Line(key), Key: key, Msg: fmt.Sprintf(format, args...)}
}

// defaultGroup is whom a section without processes is for.
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

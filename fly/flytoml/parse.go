package flytoml

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

// Parse reads the fly.toml called path. Its error is Problems: everything that
// is wrong, not the first thing only.
func Parse(path string, doc []byte) (*Config, Warnings, error) {
	d, err := tomldoc.Parse(path, doc)
	if err != nil {
		var problems Problems
		errors.As(err, &problems)
		return nil, nil, problems
	}
	r := &reader{doc: d, root: d.Root(), c: &Config{file: path, doc: d}}
	r.read()
	problems, warnings := d.Close()
	if len(problems) > 0 {
		return nil, warnings, problems
	}
	return r.c, warnings, nil
}

// reader fills in one Config. Sections are read in the order in which they
// need each other: groups first, because most sections name some.
type reader struct {
	doc  *tomldoc.Doc
	root *tomldoc.Table
	c    *Config
	// explicit says that there is a [processes] with something in it.
	explicit bool
	// legacyMetrics is [experimental] metrics_port and metrics_path.
	legacyMetrics *fly.MachineMetrics
}

func (r *reader) read() {
	c, root := r.c, r.root
	if c.app = root.String("app"); c.app == "" {
		if v, ok := root.Any("app"); !ok || v == "" {
			root.Errorf("app", "missing; write the name of the Fly app: app = \"…\"")
		}
	}
	c.region = root.String("primary_region")
	c.host = root.String("host_dedication_id")
	c.swap = nonNegative(root, "swap_size_mb")
	r.command(root, "console_command")
	r.readProcesses()
	r.readEnv()
	r.readStop()
	r.readExperimental()
	r.readBuild()
	r.readMachineConfig()
	r.readServices()
	r.readChecks()
	r.readMounts()
	r.readVMs()
	r.readFiles()
	r.readStatics()
	r.readMetrics()
	r.readRestarts()
	r.readDeploy() // last: which strategies are possible depends on the rest
}

func (r *reader) readProcesses() {
	c := r.c
	c.commands = map[string][]string{}
	add := func(t *tomldoc.Table, key, name string) {
		if !slices.Contains(c.groups, name) {
			c.groups = append(c.groups, name)
		}
		if cmd := r.command(t, key); len(cmd) > 0 {
			c.commands[name] = cmd
		}
	}
	if v, _ := r.root.Any("processes"); isTable(v) {
		t := r.root.Table("processes")
		for _, name := range t.Keys() {
			add(t, name, name)
		}
	} else {
		for _, t := range r.root.Tables("processes") { // how it was once written, often empty
			if t.Has("name") {
				add(t, "command", t.String("name"))
			}
		}
	}
	if r.explicit = len(c.groups) > 0; !r.explicit {
		c.groups = []string{DefaultGroup}
	}
	slices.Sort(c.groups)
}

// command reads a shell-like command line.
func (r *reader) command(t *tomldoc.Table, key string) []string {
	words, err := splitWords(t.String(key))
	if err != nil {
		t.Errorf(key, "%v", err)
	}
	return words
}

// processes reads which groups a section is for. explicit is false when it
// doesn't say.
func (r *reader) processes(t *tomldoc.Table) []string {
	names := t.Strings("processes")
	for i, name := range names {
		if slices.Contains(r.c.groups, name) {
			continue
		}
		msg := fmt.Sprintf("there is no process group %q; [processes] has: %s", name, strings.Join(r.c.groups, ", "))
		if !r.explicit {
			msg = fmt.Sprintf("there is no process group %q; without [processes] there is only %q", name, DefaultGroup)
		}
		r.doc.Errorf(fmt.Sprintf("%s[%d]", t.Key("processes"), i), "%s", msg)
	}
	return names
}

func (r *reader) readEnv() {
	r.c.env = map[string]string{}
	for _, t := range r.root.Tables("env") {
		for _, name := range t.Keys() {
			switch v, _ := t.Any(name); v := v.(type) {
			case []any, map[string]any:
				t.Errorf(name, "want a string; an env var has no structure")
			default:
				r.c.env[name] = fmt.Sprint(v)
			}
		}
	}
}

func (r *reader) readStop() {
	signal := r.root.StringPtr("kill_signal")
	r.checkSignal(r.root, signal)
	timeout := duration(r.root, "kill_timeout", time.Second)
	if signal != nil || timeout != nil {
		r.c.stop = &fly.StopConfig{Signal: signal, Timeout: timeout}
	}
}

func (r *reader) checkSignal(t *tomldoc.Table, signal *string) {
	known := []string{"SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM"}
	if signal != nil && !slices.Contains(known, *signal) {
		t.Warnf("kill_signal", "Fly's reference doesn't have %q, only %s", *signal, strings.Join(known, ", "))
	}
}

func (r *reader) readExperimental() {
	t := r.root.Table("experimental")
	if t == nil {
		return
	}
	r.c.cmd = stringOrList(t, "cmd")
	r.c.entrypoint = stringOrList(t, "entrypoint")
	r.c.exec = stringOrList(t, "exec")
	if timeout := duration(t, "kill_timeout", time.Second); timeout != nil && !r.root.Has("kill_timeout") {
		if r.c.stop == nil {
			r.c.stop = new(fly.StopConfig)
		}
		r.c.stop.Timeout = timeout
	}
	if port, path := t.Int("metrics_port"), t.String("metrics_path"); port != nil || path != "" {
		r.legacyMetrics = &fly.MachineMetrics{Port: value(port), Path: path}
	}
	r.c.machineConfig = t.String("machine_config")
	for _, key := range []string{"auto_rollback", "enable_consul", "enable_etcd", "lazy_load_images"} {
		t.Bool(key)
	}
	t.Know("attached")
	for _, key := range []string{"allowed_public_ports", "private_network"} { // flyctl launch once wrote these
		noEffect(t, key)
	}
}

// noEffect is for settings that flyctl once wrote, and now ignores.
func noEffect(t *tomldoc.Table, key string) {
	if t.Has(key) {
		t.Warnf(key, "has no effect any more; remove it")
	}
}

func (r *reader) readBuild() {
	t := r.root.Table("build")
	if t == nil {
		return
	}
	b := &r.c.build
	b.Image = t.String("image")
	b.Dockerfile = t.String("dockerfile")
	b.Ignorefile = t.String("ignorefile")
	b.Builder = t.String("builder")
	b.Buildpacks = t.Strings("buildpacks")
	if b.Target = t.String("build-target"); b.Target == "" {
		b.Target = t.String("build_target")
	}
	if args := t.Table("args"); args != nil {
		b.Args = map[string]string{}
		for _, name := range args.Keys() {
			b.Args[name] = args.String(name)
		}
	}
	if t.Has("compose") {
		t.Errorf("compose", "a compose file as a machine's containers is not supported; say them in machine_config")
		t.Table("compose").Ignore()
	}
	if s := t.Table("settings"); s != nil {
		s.Ignore()
	}
	if c := t.String("compression"); c != "" && c != "gzip" && c != "zstd" {
		t.Errorf("compression", "%q is not a compression; use gzip or zstd", c)
	}
	if l := t.Int("compression_level"); l != nil && (*l < 0 || *l > 9) {
		t.Errorf("compression_level", "%d is out of range; use 0 to 9", *l)
	}
	ways := 0
	for _, said := range []bool{b.Image != "", b.Dockerfile != "" || b.Target != "", b.Builder != "" || len(b.Buildpacks) > 0, t.String("builtin") != ""} {
		if said {
			ways++
		}
	}
	if ways > 1 {
		t.Warnf("", "says more than one way to come by an image; only the first of image, dockerfile and builder counts")
	}
}

func (r *reader) readMachineConfig() {
	key := "machine_config"
	if s := r.root.String(key); r.c.machineConfig == "" {
		r.c.machineConfig = s
	} else {
		key = "experimental.machine_config"
	}
	r.c.container = r.root.String("container")
	switch s := r.c.machineConfig; {
	case s == "":
	case strings.HasPrefix(s, "{"):
		if _, err := decode([]byte(s)); err != nil {
			r.doc.Errorf(key, "not JSON: %v", err)
		}
	case strings.HasSuffix(s, ".json"):
		r.local(key, s)
	default:
		r.doc.Errorf(key, "%.40q is neither JSON nor the name of a .json file", s)
	}
}

func (r *reader) local(key, name string) {
	r.c.localFiles = append(r.c.localFiles, LocalFile{Name: name, Key: key})
}

func duration(t *tomldoc.Table, key string, unit time.Duration) *fly.Duration {
	d := t.Duration(key, unit)
	if d == nil {
		return nil
	}
	return &fly.Duration{Duration: *d}
}

func nonNegative(t *tomldoc.Table, key string) *int {
	n := t.Int(key)
	if n != nil && *n < 0 {
		t.Errorf(key, "%d is less than nothing; want 0 or more", *n)
		return nil
	}
	return n
}

func stringOrList(t *tomldoc.Table, key string) []string {
	if v, _ := t.Any(key); v != nil {
		if s, ok := v.(string); ok {
			return []string{s}
		}
		return t.Strings(key)
	}
	return nil
}

func isTable(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

package flytoml

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

// Parse parses and validates the fly.toml at path. Its error is Problems, with
// every mistake. If the file is TOML, Parse also returns a Config with the
// error, of which only LocalFiles may be used; its files may be wrong as well.
func Parse(path string, doc []byte) (*Config, Warnings, error) {
	d, err := tomldoc.Parse(path, doc)
	if err != nil {
		var problems Problems
		errors.As(err, &problems)
		return nil, nil, problems
	}
	r := &reader{doc: d, root: d.Root(), c: &Config{file: path, doc: d}}
	r.readAll()
	problems, warnings := d.Close()
	if len(problems) > 0 {
		return r.c, warnings, problems
	}
	return r.c, warnings, nil
}

// regionCode matches the names of regions.
var regionCode = regexp.MustCompile(`^[a-z]{3}$`)

// reader reads the sections into one Config, in order of their dependencies:
// groups first, because most sections refer to them.
type reader struct {
	doc  *tomldoc.Doc
	root *tomldoc.Table
	c    *Config
	// explicit is true if there is a non-empty [processes].
	explicit bool
	// legacyMetrics is [experimental] metrics_port and metrics_path.
	legacyMetrics *fly.MachineMetrics
}

func (r *reader) readAll() {
	c, root := r.c, r.root
	if c.app = root.String("app"); c.app == "" {
		if v, ok := root.Any("app"); !ok || v == "" {
			root.Errorf("app", "missing; write the name of the Fly app: app = \"…\"")
		}
	}
	c.region = root.String("primary_region")
	if c.region != "" && !regionCode.MatchString(c.region) {
		root.Warnf("primary_region", "%.40q is not the code of a region; Fly's are like \"ams\"", c.region)
	}
	c.host = root.String("host_dedication_id")
	c.swap = readNonNegative(root, "swap_size_mb")
	r.readCommand(root, "console_command")
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
	r.readDeploy() // last, because the possible strategies depend on the rest
}

func (r *reader) readProcesses() {
	c := r.c
	c.commands = map[string][]string{}
	add := func(t *tomldoc.Table, key, name, at string) {
		switch {
		case name == "":
			t.Errorf(at, "a process group needs a name")
		case strings.HasPrefix(name, reservedPrefix):
			t.Errorf(at, "%q can't be the name of a process group; names that begin with %s are Fly's own", name, reservedPrefix)
		}
		if !slices.Contains(c.groups, name) {
			c.groups = append(c.groups, name)
		}
		cmd := r.readCommand(t, key)
		if v, ok := t.Any(key); ok && v != "" {
			c.commands[name] = append([]string{}, cmd...) // a command of only a comment is empty: that of the image
		}
	}
	if v, _ := r.root.Any("processes"); isTable(v) {
		t := r.root.Table("processes")
		for _, name := range t.Keys() {
			add(t, name, name, name)
		}
	} else {
		for _, t := range r.root.Tables("processes") { // old form, often empty
			switch {
			case t.Has("name"):
				add(t, "command", t.String("name"), "name")
			case !t.Empty():
				t.Know("command")
				t.Errorf("name", "missing; a command needs the name of its process group")
			}
		}
	}
	if r.explicit = len(c.groups) > 0; !r.explicit {
		c.groups = []string{DefaultGroup}
	}
	slices.Sort(c.groups)
}

// readCommand reads a command line and splits it like a shell.
func (r *reader) readCommand(t *tomldoc.Table, key string) []string {
	words, err := splitWords(t.String(key))
	if err != nil {
		t.Errorf(key, "%v", err)
	}
	return words
}

// readProcessNames reads the groups that a section applies to; none if it
// doesn't say.
func (r *reader) readProcessNames(t *tomldoc.Table) []string {
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
				r.warnEnv(t, name)
			}
		}
	}
}

func (r *reader) warnEnv(t *tomldoc.Table, name string) {
	secret := slices.ContainsFunc([]string{"KEY", "PRIVATE", "DATABASE_URL", "PASSWORD", "SECRET"}, func(s string) bool { return strings.Contains(name, s) })
	switch {
	case strings.HasPrefix(name, "FLY_"):
		t.Warnf(name, "may clash with what Fly sets itself; Fly's names begin with FLY_")
	case name == envRegion && r.c.region != "":
		t.Warnf(name, "has no effect; primary_region comes before it")
	case secret && name != "AWS_ACCESS_KEY_ID" && name != "TIGRIS_ACCESS_KEY_ID":
		t.Warnf(name, "may be a secret, which every reader of this file sees; if it is one: fly secrets set -a %s %s=…", r.c.app, name)
	}
}

// maxStop is Fly's maximum for kill_timeout.
const maxStop = 5 * time.Minute

func (r *reader) readStop() {
	signal := r.root.StringPtr("kill_signal")
	r.checkSignal(r.root, signal)
	timeout := readDuration(r.root, "kill_timeout", time.Second)
	if timeout != nil && timeout.Duration > maxStop {
		r.root.Warnf("kill_timeout", "%s is more than the %s that Fly waits", timeout, maxStop)
	}
	if signal != nil || timeout != nil {
		r.c.stop = &fly.StopConfig{Signal: signal, Timeout: timeout}
	}
}

func (r *reader) checkSignal(t *tomldoc.Table, signal *string) {
	known := []string{"SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGSTOP"}
	if signal != nil && !slices.Contains(known, *signal) {
		t.Warnf("kill_signal", "Fly's reference doesn't have %q, only %s", *signal, strings.Join(known, ", "))
	}
}

// warnNoEffect warns about settings that flyctl once wrote and now ignores.
func warnNoEffect(t *tomldoc.Table, key string) {
	if t.Has(key) {
		t.Warnf(key, "has no effect any more; remove it")
	}
}

// readDuration reads a duration; a bare number counts units. Where flyctl reads
// units it accepts "" as not set.
func readDuration(t *tomldoc.Table, key string, unit time.Duration) *fly.Duration {
	if v, _ := t.Any(key); v == "" && unit > time.Nanosecond {
		return nil
	}
	d := t.Duration(key, unit)
	if d == nil {
		return nil
	}
	return &fly.Duration{Duration: *d}
}

func readNonNegative(t *tomldoc.Table, key string) *int {
	n := t.Int(key)
	if n != nil && *n < 0 {
		t.Errorf(key, "must be 0 or more, got %d", *n)
		return nil
	}
	return n
}

func readStringOrList(t *tomldoc.Table, key string) []string {
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

func isList(v any) bool {
	_, ok := v.([]any)
	return ok
}

func isString(v any) bool {
	_, ok := v.(string)
	return ok
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

package flytoml

import (
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

// flyctl's defaults for [deploy].
const (
	defaultMaxUnavailable = 0.33
	defaultWait           = 5 * time.Minute
)

// noReleaseTimeout replaces a timeout of 0, which is none in flyctl.
const noReleaseTimeout = 24 * time.Hour

func (r *reader) readDeploy() {
	d := &r.c.deploy
	*d = Deploy{Strategy: "rolling", MaxUnavailable: defaultMaxUnavailable, Wait: defaultWait, ReleaseTimeout: defaultWait}
	t := r.root.Table("deploy")
	if t == nil {
		r.warnSlowChecks(r.root)
		return
	}
	if s := t.String("strategy"); s != "" {
		d.Strategy = s
		r.checkStrategy(t, s)
	}
	if n := t.Float("max_unavailable"); n != nil {
		d.MaxUnavailable = *n
		if *n <= 0 {
			t.Errorf("max_unavailable", "%v would never update a machine; use a share like 0.33, or a number of machines, 1 or more", *n)
		} else if d.Strategy == "immediate" || d.Strategy == "bluegreen" {
			t.Warnf("max_unavailable", "has no effect with strategy %s", d.Strategy)
		}
	}
	d.Wait = r.readDeployTime(t, "wait_timeout", d.Wait)
	r.warnSlowChecks(t)
	d.ReleaseCommand = r.readCommand(t, "release_command")
	if v, _ := t.Any("release_command"); isBlankCommand(v) {
		t.Errorf("release_command", "is empty, so flyctl would run the image's own command; write a command, or remove the setting")
	}
	if v, _ := t.Any("release_command_timeout"); v == "0s" || v == "0" {
		d.ReleaseTimeout = noReleaseTimeout
		t.Warnf("release_command_timeout", "%s means no limit to flyctl; a release limits it to %s", v, noReleaseTimeout)
	} else {
		d.ReleaseTimeout = r.readDeployTime(t, "release_command_timeout", d.ReleaseTimeout)
	}
	if v := t.Table("release_command_vm"); v != nil {
		d.releaseVM = r.readGuest(v)
		if m, _ := v.Any("memory"); m != nil && !isString(m) {
			v.Errorf("memory", "want a string with a unit, like \"%vmb\"; flyctl takes a bare number in [[vm]] only", m)
		}
		if v.Has("processes") {
			v.Warnf("processes", "has no effect; the release command has a machine of its own")
		}
	}
	r.readCommand(t, "seed_command")
}

// warnSlowChecks warns about checks that have no result within wait_timeout.
func (r *reader) warnSlowChecks(t *tomldoc.Table) {
	for _, slow := range r.c.SlowChecks() {
		t.Warnf("wait_timeout", "%s", slow)
	}
}

// isBlankCommand reports whether v is a command line without words.
func isBlankCommand(v any) bool {
	s, _ := v.(string)
	words, err := splitWords(s)
	return s != "" && err == nil && len(words) == 0
}

func (r *reader) checkStrategy(t *tomldoc.Table, s string) {
	known := []string{"rolling", "canary", "bluegreen", "immediate"}
	checks := len(r.c.checks) > 0 || slices.ContainsFunc(r.c.services, func(s service) bool { return len(s.Checks) > 0 })
	switch {
	case !slices.Contains(known, s):
		t.Errorf("strategy", "%q is not a strategy; use %s", s, strings.Join(known, ", "))
	case (s == "canary" || s == "bluegreen") && len(r.c.mounts) > 0:
		t.Errorf("strategy", "%s creates a second machine, and a volume attaches to only one; use rolling with [mounts]", s)
	case s == "bluegreen" && !checks:
		t.Errorf("strategy", "bluegreen needs a check to know when green is good; add [[http_service.checks]] or another")
	}
}

// readDeployTime reads a time of [deploy]. flyctl takes a bare number as
// nanoseconds, which is rarely meant: less than a second of them is an error.
func (r *reader) readDeployTime(t *tomldoc.Table, key string, otherwise time.Duration) time.Duration {
	v, _ := t.Any(key)
	d := t.Duration(key, time.Nanosecond)
	switch _, text := v.(string); {
	case d == nil:
		return otherwise
	case !text && key == "release_command_timeout" && len(r.c.deploy.ReleaseCommand) == 0:
		t.Warnf(key, "has no effect without release_command, and would mean %s; write it with a unit", d)
	case !text && *d < time.Second:
		t.Errorf(key, "needs a unit, like \"%vs\"; got %[1]v", v)
	case !text:
		t.Warnf(key, "%v is in nanoseconds and means %s; write it with a unit: \"%s\"", v, d, d)
	case *d < time.Second:
		t.Errorf(key, "%s is too short; use a second or more", *d)
	}
	return *d
}

package flytoml

import (
	"encoding/base64"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

// flyctl's defaults of [deploy].
const (
	defaultMaxUnavailable = 0.33
	defaultWait           = 5 * time.Minute
)

func (r *reader) readDeploy() {
	d := &r.c.deploy
	*d = Deploy{Strategy: "rolling", MaxUnavailable: defaultMaxUnavailable, Wait: defaultWait, ReleaseTimeout: defaultWait}
	t := r.root.Table("deploy")
	if t == nil {
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
	d.Wait = r.deployTime(t, "wait_timeout", d.Wait)
	d.ReleaseCommand = r.command(t, "release_command")
	d.ReleaseTimeout = r.deployTime(t, "release_command_timeout", d.ReleaseTimeout)
	if v := t.Table("release_command_vm"); v != nil {
		d.releaseVM = r.guest(v)
	}
	r.command(t, "seed_command")
}

func (r *reader) checkStrategy(t *tomldoc.Table, s string) {
	known := []string{"rolling", "canary", "bluegreen", "immediate"}
	checks := len(r.c.checks) > 0 || slices.ContainsFunc(r.c.services, func(s service) bool { return len(s.Checks) > 0 })
	switch {
	case !slices.Contains(known, s):
		t.Errorf("strategy", "%q is not a strategy; use %s", s, strings.Join(known, ", "))
	case (s == "canary" || s == "bluegreen") && len(r.c.mounts) > 0:
		t.Errorf("strategy", "%s makes a machine beside another, and a volume has only one; use rolling with [mounts]", s)
	case s == "bluegreen" && !checks:
		t.Errorf("strategy", "bluegreen needs a check to know when green is good; add [[http_service.checks]] or another")
	}
}

// deployTime reads a time of [deploy], where flyctl takes a bare number for
// nanoseconds, which nobody means.
func (r *reader) deployTime(t *tomldoc.Table, key string, otherwise time.Duration) time.Duration {
	d := t.Duration(key, 0)
	switch {
	case d == nil:
		return otherwise
	case *d < time.Second:
		t.Errorf(key, "%s is too short; use a second or more", *d)
	}
	return *d
}

func (r *reader) readMounts() {
	seen := map[string]string{}
	for _, t := range slices.Concat(r.root.Tables("mounts"), r.root.Tables("mount")) {
		m := Mount{processes: r.processes(t)}
		if m.Name = t.String("source"); m.Name == "" && !t.Has("source") {
			t.Errorf("source", "missing; write the volume's name")
		}
		if m.Path = t.String("destination"); m.Path == "" {
			t.Errorf("destination", "missing; write the path to mount the volume at")
		} else if !path.IsAbs(m.Path) {
			t.Warnf("destination", "%q doesn't begin with /", m.Path)
		}
		m.InitialSizeGB = r.volumeSize(t, "initial_size")
		if n := t.Int("snapshot_retention"); n != nil {
			if m.Retention = *n; *n < 1 || *n > 60 {
				t.Errorf("snapshot_retention", "%d is out of range; use 1 to 60 days", *n)
			}
		}
		t.Bool("scheduled_snapshots")
		r.autoExtend(t, &m)
		for _, group := range r.c.groups {
			if !r.c.applies(group, m.processes) {
				continue
			}
			if first, twice := seen[group]; twice {
				t.Errorf("", "process group %s already mounts %s; Fly mounts one volume a machine", group, first)
			}
			seen[group] = m.Name
		}
		r.c.mounts = append(r.c.mounts, m)
	}
}

func (r *reader) autoExtend(t *tomldoc.Table, m *Mount) {
	const threshold, increment, limit = "auto_extend_size_threshold", "auto_extend_size_increment", "auto_extend_size_limit"
	m.ExtendThresholdPercent = value(t.Int(threshold))
	m.AddSizeGb = r.volumeSize(t, increment)
	m.SizeGbLimit = r.volumeSize(t, limit)
	if !t.Has(threshold) && !t.Has(increment) && !t.Has(limit) {
		return
	}
	if n := m.ExtendThresholdPercent; n < 50 || n > 99 {
		t.Errorf(threshold, "want a percentage from 50 to 99")
	}
	switch n := m.AddSizeGb; {
	case !t.Has(increment):
		t.Errorf(increment, "missing; it goes with %s", threshold)
	case n > 100:
		t.Errorf(increment, "%d GB is out of range; use 1gb to 100gb", n)
	}
	if n := m.SizeGbLimit; n > 500 {
		t.Errorf(limit, "%d GB is out of range; use 1gb to 500gb", n)
	}
}

func (r *reader) volumeSize(t *tomldoc.Table, key string) int {
	s := text(t, key)
	if s == "" {
		return 0
	}
	n, err := parseSize(s, volumeBase, volumeUnit)
	if err != nil {
		t.Errorf(key, "%v", err)
	} else if n < 1 {
		t.Errorf(key, "%s is too small; Fly's volumes have 1gb or more", s)
	}
	return n
}

func (r *reader) readFiles() {
	for _, t := range r.root.Tables("files") {
		f := file{File: fly.File{GuestPath: t.String("guest_path")}, local: t.String("local_path")}
		if !path.IsAbs(f.GuestPath) {
			t.Errorf("guest_path", "want the absolute path of the file in the machine")
		}
		secret, raw := t.String("secret_name"), t.String("raw_value")
		ways := 0
		for _, way := range []string{f.local, secret, raw} {
			if way != "" {
				ways++
			}
		}
		switch {
		case f.local != "":
			r.local(t.Key("local_path"), f.local)
		case secret != "":
			f.SecretName = &secret
		case raw != "":
			encoded := base64.StdEncoding.EncodeToString([]byte(raw))
			f.RawValue = &encoded
		default:
			t.Errorf("", "has no content; write local_path, secret_name or raw_value")
		}
		if ways > 1 {
			t.Warnf("", "has more than one content; the first of local_path, secret_name and raw_value counts")
		}
		if len(r.processes(t)) > 0 {
			t.Warnf("processes", "has no effect; every process group gets every file")
		}
		r.c.files = append(r.c.files, f)
	}
}

func (r *reader) readStatics() {
	for _, t := range r.root.Tables("statics") {
		for _, key := range []string{"guest_path", "url_prefix"} {
			if t.String(key) == "" && !t.Has(key) {
				t.Errorf(key, "missing")
			}
		}
		r.c.statics = append(r.c.statics, &fly.Static{
			GuestPath: t.String("guest_path"), UrlPrefix: t.String("url_prefix"),
			TigrisBucket: t.String("tigris_bucket"), IndexDocument: t.String("index_document"),
		})
	}
}

func (r *reader) readMetrics() {
	for _, t := range slices.Concat(r.root.Tables("metric"), r.root.Tables("metrics")) {
		r.c.metrics = append(r.c.metrics, metrics{
			MachineMetrics: fly.MachineMetrics{
				Port: value(portNumber(t, "port", false)), Path: t.String("path"), Https: value(t.Bool("https")),
			},
			processes: r.processes(t),
		})
	}
	if r.legacyMetrics != nil && !r.root.Has("metrics") {
		r.c.metrics = append(r.c.metrics, metrics{MachineMetrics: *r.legacyMetrics})
	}
}

func (r *reader) readRestarts() {
	policies := map[string]fly.MachineRestartPolicy{
		"always": fly.MachineRestartPolicyAlways, "on-failure": fly.MachineRestartPolicyOnFailure, "never": fly.MachineRestartPolicyNo,
	}
	for _, t := range r.root.Tables("restart") {
		policy, ok := policies[t.String("policy")]
		switch v, there := t.Any("policy"); {
		case !there:
			t.Errorf("policy", "missing; write always, on-failure or never")
		case !ok:
			t.Errorf("policy", "%.40q is not a policy; use always, on-failure or never", fmt.Sprint(v))
		}
		r.c.restarts = append(r.c.restarts, restart{
			MachineRestart: fly.MachineRestart{Policy: policy, MaxRetries: value(nonNegative(t, "retries"))},
			processes:      r.processes(t),
		})
	}
}

func (r *reader) readVMs() {
	for _, t := range slices.Concat(r.root.Tables("compute"), r.root.Tables("computes"), r.root.Tables("vm")) {
		v := vm{processes: r.processes(t)}
		if g := r.guest(t); g != nil {
			v.MachineGuest = *g
		}
		r.c.vms = append(r.c.vms, v)
	}
}

// guest reads a size of machine: a preset, then memory, then explicit numbers.
func (r *reader) guest(t *tomldoc.Table) *fly.MachineGuest {
	size, gpu := t.String("size"), t.String("gpu_kind")
	if size == "" {
		if size = fly.DefaultVMSize; gpu != "" {
			size = fly.DefaultGPUVMSize
		}
	}
	g := new(fly.MachineGuest)
	if err := g.SetSize(size); err != nil {
		msg := fmt.Sprintf("%q is not a size of machine", size)
		if near := tomldoc.Nearest(size, slices.Collect(maps.Keys(fly.MachinePresets))); near != "" {
			msg += fmt.Sprintf("; did you mean %s?", near)
		} else {
			msg += "; sizes are like shared-cpu-1x and performance-2x"
		}
		t.Errorf("size", "%s", msg)
	}
	g.HostDedicationID = r.c.host
	if s := text(t, "memory"); s != "" {
		mb, err := parseSize(s, memoryBase, memoryUnit)
		switch {
		case err != nil:
			t.Errorf("memory", "%v", err)
		case mb == 0:
			t.Errorf("memory", "a machine needs some; write it like \"512mb\"")
		default:
			g.MemoryMB = mb
		}
	}
	override(&g.MemoryMB, nonNegative(t, "memory_mb"))
	override(&g.MaxMemoryMB, nonNegative(t, "max_memory_mb"))
	override(&g.CPUs, nonNegative(t, "cpus"))
	override(&g.GPUs, nonNegative(t, "gpus"))
	override(&g.GPUKind, &gpu)
	override(&g.CPUKind, t.StringPtr("cpu_kind"))
	override(&g.HostDedicationID, t.StringPtr("host_dedication_id"))
	if persist := fly.MachinePersistRootfs(t.String("persist_rootfs")); persist != "" {
		g.PersistRootfs = persist //lint:ignore SA1019 flyctl sends it here
	}
	if k := g.CPUKind; k != "" && k != "shared" && k != "performance" {
		t.Errorf("cpu_kind", "%q is not a kind of CPU; use shared or performance", k)
	}
	g.KernelArgs = t.Strings("kernel_args")
	return g
}

// override takes a value that says something.
func override[T comparable](dst *T, v *T) {
	if v != nil && *v != *new(T) {
		*dst = *v
	}
}

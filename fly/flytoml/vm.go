package flytoml

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

func (r *reader) readVMs() {
	sized := map[string]bool{} // "": every group that isn't named
	for _, t := range slices.Concat(r.root.Tables("compute"), r.root.Tables("computes"), r.root.Tables("vm")) {
		v := vm{processes: r.readProcessNames(t), MachineGuest: *r.readGuest(t)}
		for _, name := range v.processes {
			if sized[name] {
				t.Warnf("processes", "process group %s has another size above; this one counts", name)
			}
			sized[name] = true
		}
		if len(v.processes) == 0 {
			if sized[""] {
				t.Warnf("", "has no effect; another [[vm]] is for all process groups already")
			}
			sized[""] = true
		}
		r.c.vms = append(r.c.vms, v)
	}
}

// readGuest reads a machine size: a preset, then memory, then explicit numbers.
func (r *reader) readGuest(t *tomldoc.Table) *fly.MachineGuest {
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
	readMemory(t, g)
	overrideIfSet(&g.MaxMemoryMB, readNonNegative(t, "max_memory_mb"))
	overrideIfSet(&g.CPUs, readNonNegative(t, "cpus"))
	overrideIfSet(&g.GPUs, readNonNegative(t, "gpus"))
	overrideIfSet(&g.GPUKind, &gpu)
	overrideIfSet(&g.CPUKind, t.StringPtr("cpu_kind"))
	if host := t.StringPtr("host_dedication_id"); host != nil {
		if r.c.host != "" && *host != "" && *host != r.c.host {
			t.Errorf("host_dedication_id", "%q here, and %q at the top of the file; keep one of them", *host, r.c.host)
		}
		overrideIfSet(&g.HostDedicationID, host)
	}
	r.readPersistRootfs(t, g)
	if k := g.CPUKind; k != "" && k != "shared" && k != "performance" {
		t.Errorf("cpu_kind", "%q is not a kind of CPU; use shared or performance", k)
	}
	kinds := []string{"a10", "a100-pcie-40gb", "a100-sxm4-80gb", "l40s"}
	if gpu != "" && !slices.Contains(kinds, gpu) {
		t.Warnf("gpu_kind", "Fly's reference doesn't have %q, only %s", gpu, strings.Join(kinds, ", "))
	}
	g.KernelArgs = t.Strings("kernel_args")
	return g
}

// readMemory reads memory, then memory_mb, which takes precedence.
func readMemory(t *tomldoc.Table, g *fly.MachineGuest) {
	if s := readText(t, "memory"); s != "" {
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
	mb := readNonNegative(t, "memory_mb")
	if t.Has("memory") && mb != nil && *mb != g.MemoryMB {
		t.Warnf("memory_mb", "%d contradicts memory = %q; memory_mb counts: machines get %[1]d MB", *mb, readText(t, "memory"))
	}
	overrideIfSet(&g.MemoryMB, mb)
}

func (r *reader) readPersistRootfs(t *tomldoc.Table, g *fly.MachineGuest) {
	switch s := t.String("persist_rootfs"); s {
	case "never", "restart", "always":
		//lint:ignore SA1019 flyctl sends it here
		g.PersistRootfs = fly.MachinePersistRootfs(s)
	case "", "none":
	default:
		t.Errorf("persist_rootfs", "must be never, restart or always, got %q", s)
	}
}

// overrideIfSet sets dst to v unless v is nil or zero.
func overrideIfSet[T comparable](dst *T, v *T) {
	if v != nil && *v != *new(T) {
		*dst = *v
	}
}

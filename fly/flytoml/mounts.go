package flytoml

import (
	"path"
	"regexp"
	"slices"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

// volumeName matches the names that Fly accepts.
var volumeName = regexp.MustCompile(`^[a-z0-9_]{1,30}$`)

func (r *reader) readMounts() {
	seen := map[string]string{}
	for _, t := range slices.Concat(r.root.Tables("mount"), r.root.Tables("mounts")) {
		m := Mount{processes: r.readProcessNames(t)}
		r.readMountPoint(t, &m)
		m.InitialSizeGB = r.readVolumeSize(t, "initial_size")
		if n := t.Int("snapshot_retention"); n != nil {
			if m.Retention = *n; *n < 1 || *n > 60 {
				t.Errorf("snapshot_retention", "%d is out of range; use 1 to 60 days", *n)
			}
		}
		m.Snapshots = t.Bool("scheduled_snapshots")
		r.readAutoExtend(t, &m)
		for _, group := range r.c.groups {
			if !r.c.appliesTo(group, m.processes) {
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

// readMountPoint reads the name of a volume and where it is mounted.
func (r *reader) readMountPoint(t *tomldoc.Table, m *Mount) {
	if m.Name = t.String("source"); m.Name == "" && !t.Has("source") {
		t.Errorf("source", "missing; write the volume's name")
	} else if m.Name != "" && !volumeName.MatchString(m.Name) {
		t.Warnf("source", "%.40q is not a name that Fly gives a volume; use lower-case letters, digits and _, 30 at most", m.Name)
	}
	if m.Path = t.String("destination"); m.Path == "" {
		t.Errorf("destination", "missing; write the path to mount the volume at")
	} else if !path.IsAbs(m.Path) {
		t.Warnf("destination", "%q doesn't begin with /", m.Path)
	} else if path.Clean(m.Path) == "/" {
		t.Errorf("destination", "is where the machine's own files are; write a path below it")
	}
}

func (r *reader) readAutoExtend(t *tomldoc.Table, m *Mount) {
	const threshold, increment, limit = "auto_extend_size_threshold", "auto_extend_size_increment", "auto_extend_size_limit"
	m.ExtendThresholdPercent = deref(t.Int(threshold))
	for key, size := range map[string]*int{increment: &m.AddSizeGb, limit: &m.SizeGbLimit} {
		if v, ok := t.Any(key); ok && !isString(v) {
			t.Errorf(key, "want a string with a unit, like \"%vgb\"; flyctl takes a bare number in initial_size only", v)
			continue
		}
		*size = r.readVolumeSize(t, key)
	}
	isSet := func(key string) bool { v, ok := t.Any(key); return ok && v != "" }
	if m.ExtendThresholdPercent == 0 && !isSet(increment) && !isSet(limit) {
		return
	}
	if n := m.ExtendThresholdPercent; n < 50 || n > 99 {
		t.Errorf(threshold, "want a percentage from 50 to 99")
	}
	switch n := m.AddSizeGb; {
	case !isSet(increment):
		t.Errorf(increment, "missing; it goes with %s", threshold)
	case n > 100:
		t.Errorf(increment, "%d GB is out of range; use 1gb to 100gb", n)
	}
	if n := m.SizeGbLimit; n > 500 {
		t.Errorf(limit, "%d GB is out of range; use 1gb to 500gb", n)
	}
}

func (r *reader) readVolumeSize(t *tomldoc.Table, key string) int {
	s := readText(t, key)
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

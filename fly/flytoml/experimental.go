package flytoml

import (
	"strings"
	"time"

	fly "github.com/superfly/fly-go"
)

func (r *reader) readExperimental() {
	t := r.root.Table("experimental")
	if t == nil {
		return
	}
	r.c.cmd = readStringOrList(t, "cmd")
	r.c.entrypoint = readStringOrList(t, "entrypoint")
	r.c.exec = readStringOrList(t, "exec")
	if timeout := readDuration(t, "kill_timeout", time.Second); timeout != nil && !r.root.Has("kill_timeout") {
		if r.c.stop == nil {
			r.c.stop = new(fly.StopConfig)
		}
		r.c.stop.Timeout = timeout
	}
	if port, path := t.Int("metrics_port"), t.String("metrics_path"); t.Has("metrics_port") || t.Has("metrics_path") {
		r.legacyMetrics = &fly.MachineMetrics{Port: deref(port), Path: path}
	}
	r.c.machineConfig = t.String("machine_config")
	for _, key := range []string{"auto_rollback", "enable_consul", "enable_etcd", "lazy_load_images"} {
		t.Bool(key)
	}
	t.Know("attached")
	if t.Has("container") {
		t.Errorf("container", "flyctl reads it at the top of the file only, before the first section; move it there")
	}
	for _, key := range []string{"allowed_public_ports", "private_network"} { // written by old versions of flyctl launch
		warnNoEffect(t, key)
	}
}

func (r *reader) readMachineConfig() {
	key := "machine_config"
	if s := r.root.String(key); r.c.machineConfig == "" {
		r.c.machineConfig = s
	} else {
		key = "experimental.machine_config"
	}
	r.c.machineConfigKey = key
	r.c.container = r.root.String("container")
	if r.c.container != "" && r.c.machineConfig == "" {
		r.root.Warnf("container", "has no effect without machine_config")
	}
	switch s := r.c.machineConfig; {
	case s == "":
	case strings.HasPrefix(s, "{"):
		if _, err := decodeMachineConfig([]byte(s)); err != nil {
			r.doc.Errorf(key, "%v", err)
		}
	case strings.HasSuffix(s, ".json"):
		r.addLocalFile(key, s)
	default:
		r.doc.Errorf(key, "%.40q is neither JSON nor the name of a .json file", s)
	}
}

func (r *reader) addLocalFile(key, name string) {
	r.c.localFiles = append(r.c.localFiles, LocalFile{Name: name, Key: key})
}

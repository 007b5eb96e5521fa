package flytoml

import (
	"encoding/json"
	"time"
)

// Definition is the file as JSON in the form that flyctl sends with a Fly
// release ("definition" in the body of POST /api/v1/releases) and reads back
// for who has lost the file: today's names instead of old ones, durations
// spelled out, what is empty left out. It is canonical.
func (c *Config) Definition() (json.RawMessage, error) {
	said, _ := definition(today(c.doc.Root().Values()))
	return encode(said)
}

// definition is the shape of a whole file. A zero, "" or false is a setting of
// its own where it is kept, and none where it only counts when said.
var definition = fields{
	"app":                said,
	"primary_region":     said,
	"kill_signal":        kept,
	"kill_timeout":       lasting(time.Second),
	"swap_size_mb":       kept,
	"console_command":    said,
	"host_dedication_id": said,
	"machine_config":     said,
	"container":          said,
	"experimental":       notEmpty(experimental.shape()),
	"build":              notEmpty(build.shape()),
	"deploy":             deploy.shape(),
	"env":                merged,
	"processes":          commands,
	"mounts":             list(mount.shape()),
	"http_service":       httpService.with(anyService).shape(),
	"services":           list(notEmpty(portService.with(anyService).shape())),
	"checks":             named(topCheck.with(httpCheck(time.Millisecond)).shape()),
	"machine_checks":     list(machineCheck.shape()),
	"files":              list(fields{"guest_path": said, "local_path": said, "secret_name": said, "raw_value": said, "processes": said}.shape()),
	"statics":            list(fields{"guest_path": said, "url_prefix": said, "index_document": said, "tigris_bucket": otherwise("", kept)}.shape()),
	"restart":            list(fields{"policy": said, "retries": said, "processes": said}.shape()),
	"metrics":            list(fields{"port": said, "path": said, "https": said, "processes": said}.shape()),
	"vm":                 list(size.shape()),
}.shape()

var (
	experimental = fields{
		"cmd": words, "entrypoint": words, "exec": words, "machine_config": said,
		"auto_rollback": said, "enable_consul": said, "enable_etcd": said, "lazy_load_images": said,
		"attached": otherwise(object{}, fields{"secrets": otherwise(object{}, fields{"export": said}.shape())}.shape()),
	}
	build = fields{
		"image": said, "dockerfile": said, "ignorefile": said, "build-target": said, "args": said,
		"builder": said, "buildpacks": said, "builtin": said, "settings": said,
		"compose": fields{"file": said}.shape(), "compression": said, "compression_level": kept,
	}
	deploy = fields{
		"strategy": said, "max_unavailable": kept, "wait_timeout": lasting(time.Nanosecond), "seed_command": said,
		"release_command": said, "release_command_timeout": lasting(time.Nanosecond), "release_command_vm": size.shape(),
	}
	mount = fields{
		"source": said, "destination": said, "processes": said, "initial_size": printed,
		"snapshot_retention": kept, "scheduled_snapshots": kept,
		"auto_extend_size_threshold": said, "auto_extend_size_increment": said, "auto_extend_size_limit": said,
	}
	size = fields{
		"size": said, "memory": printed, "memory_mb": said, "max_memory_mb": said, "cpus": said, "cpu_kind": said,
		"gpus": said, "gpu_kind": said, "host_dedication_id": said, "persist_rootfs": persisted, "kernel_args": said, "processes": said,
	}
	anyService = fields{
		"internal_port": portNumbered(said), "processes": said, "concurrency": concurrency,
		"auto_stop_machines": autostop, "auto_start_machines": kept, "min_machines_running": kept,
		"machine_checks": list(machineCheck.shape()),
	}
	httpService = fields{
		"force_https": said, "tls_options": tlsOptions.shape(), "http_options": httpOptions.shape(),
		"checks": list(httpCheck(time.Nanosecond).shape()), // the one place where a bare number isn't milliseconds
	}
	portService = fields{
		"protocol": said, "ports": list(servicePort.shape()),
		"tcp_checks": list(times(time.Millisecond).shape()), "http_checks": list(httpCheck(time.Millisecond).shape()),
	}
	servicePort = fields{
		"port": portNumbered(kept), "start_port": kept, "end_port": kept, "handlers": said, "force_https": said,
		"tls_options": tlsOptions.shape(), "http_options": httpOptions.shape(), "proxy_proto_options": fields{"version": said}.shape(),
	}
	tlsOptions  = fields{"alpn": said, "versions": said, "default_self_signed": kept}
	httpOptions = fields{
		"compress": kept, "h2_backend": kept, "idle_timeout": kept, "headers_read_timeout": kept,
		"response": fields{"headers": said, "pristine": kept}.shape(),
		"replay_cache": list(fields{
			"path_prefix": otherwise("", kept), "ttl_seconds": otherwise(0, kept), "type": otherwise("", kept), "name": otherwise("", kept),
			"allow_bypass": said,
		}.shape()),
	}
	topCheck     = fields{"port": kept, "type": kept, "processes": said}
	machineCheck = fields{
		"command": said, "image": said, "entrypoint": said, "kill_signal": kept, "kill_timeout": lasting(time.Nanosecond),
	}
)

func times(unit time.Duration) fields {
	return fields{"interval": lasting(unit), "timeout": lasting(unit), "grace_period": lasting(unit)}
}

func httpCheck(unit time.Duration) fields {
	return times(unit).with(fields{
		"method": kept, "path": kept, "protocol": kept, "tls_skip_verify": kept, "tls_server_name": kept, "headers": headerTexts,
	})
}

// today is root with today's names for settings that have older ones.
func today(root object) object {
	out := object{}
	for key, v := range root {
		out[key] = v
	}
	for key, old := range map[string][]string{
		"mounts": {"mount", "mounts"}, "vm": {"compute", "computes", "vm"}, "metrics": {"metric", "metrics"},
	} {
		var all []any
		for _, name := range old {
			all = append(all, tables(root[name])...)
		}
		out[key] = all
	}
	experimental, _ := root["experimental"].(object)
	legacy := object{}
	for key, today := range map[string]string{"metrics_port": "port", "metrics_path": "path"} {
		if v, ok := experimental[key]; ok {
			legacy[today] = v
		}
	}
	if _, ok := root["metrics"]; !ok && len(legacy) > 0 {
		out["metrics"] = append(tables(out["metrics"]), legacy)
	}
	if v, ok := experimental["kill_timeout"]; ok && root["kill_timeout"] == nil {
		out["kill_timeout"] = v
	}
	if b, ok := root["build"].(object); ok && b["build_target"] != nil && b["build-target"] == nil {
		b = clone(b)
		b["build-target"] = b["build_target"]
		out["build"] = b
	}
	return out
}

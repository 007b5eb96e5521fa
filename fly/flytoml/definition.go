package flytoml

import (
	"encoding/json"
	"time"

	"github.com/microbima/release/internal/rawjson"
)

// Definition returns the file as canonical JSON in the form that flyctl sends
// with a Fly release ("definition" in the body of POST /api/v1/releases). A
// user who has lost the file gets it back from there: old names are replaced by
// current ones, durations are written out, empty settings are left out.
func (c *Config) Definition() (json.RawMessage, error) {
	out, _ := definitionShape(useCurrentNames(c.doc.Root().Values()))
	return rawjson.Marshal(out)
}

// definitionShape is the shape of a whole file. notNil keeps a 0, "" or false,
// which is a setting of its own there; nonZero drops it.
var definitionShape = fields{
	"app":                nonZero,
	"primary_region":     nonZero,
	"kill_signal":        notNil,
	"kill_timeout":       durationText(time.Second),
	"swap_size_mb":       notNil,
	"console_command":    nonZero,
	"host_dedication_id": nonZero,
	"machine_config":     nonZero,
	"container":          nonZero,
	"experimental":       nonEmptyTable(experimental.shape()),
	"build":              nonEmptyTable(build.shape()),
	"deploy":             deploy.shape(),
	"env":                mergedTables,
	"processes":          processCommands,
	"mounts":             listOf(mount.shape()),
	"http_service":       httpService.with(anyService).shape(),
	"services":           listOf(nonEmptyTable(portService.with(anyService).shape())),
	"checks":             namedTables(topCheck.with(httpCheck(time.Millisecond)).shape()),
	"machine_checks":     listOf(machineCheck.shape()),
	"files":              listOf(fields{"guest_path": nonZero, "local_path": nonZero, "secret_name": nonZero, "raw_value": nonZero, "processes": nonZero}.shape()),
	"statics":            listOf(fields{"guest_path": nonZero, "url_prefix": nonZero, "index_document": nonZero, "tigris_bucket": withDefault("", notNil)}.shape()),
	"restart":            listOf(fields{"policy": nonZero, "retries": nonZero, "processes": nonZero}.shape()),
	"metrics":            listOf(fields{"port": nonZero, "path": nonZero, "https": nonZero, "processes": nonZero}.shape()),
	"vm":                 listOf(size.shape()),
}.shape()

var (
	experimental = fields{
		"cmd": stringOrStrings, "entrypoint": stringOrStrings, "exec": stringOrStrings, "machine_config": nonZero,
		"auto_rollback": nonZero, "enable_consul": nonZero, "enable_etcd": nonZero, "lazy_load_images": nonZero,
		"attached": withDefault(object{}, fields{"secrets": withDefault(object{}, fields{"export": nonZero}.shape())}.shape()),
	}
	build = fields{
		"image": nonZero, "dockerfile": nonZero, "ignorefile": nonZero, "build-target": nonZero, "args": nonZero,
		"builder": nonZero, "buildpacks": nonZero, "builtin": nonZero, "settings": nonZero,
		"compose": fields{"file": nonZero}.shape(), "compression": nonZero, "compression_level": notNil,
	}
	deploy = fields{
		"strategy": nonZero, "max_unavailable": notNil, "wait_timeout": durationText(time.Nanosecond), "seed_command": nonZero,
		"release_command": nonZero, "release_command_timeout": durationText(time.Nanosecond), "release_command_vm": size.shape(),
	}
	mount = fields{
		"source": nonZero, "destination": nonZero, "processes": nonZero, "initial_size": sizeText,
		"snapshot_retention": notNil, "scheduled_snapshots": notNil,
		"auto_extend_size_threshold": nonZero, "auto_extend_size_increment": nonZero, "auto_extend_size_limit": nonZero,
	}
	size = fields{
		"size": nonZero, "memory": sizeText, "memory_mb": nonZero, "max_memory_mb": nonZero, "cpus": nonZero, "cpu_kind": nonZero,
		"gpus": nonZero, "gpu_kind": nonZero, "host_dedication_id": nonZero, "persist_rootfs": persistRootfs, "kernel_args": nonZero, "processes": nonZero,
	}
	anyService = fields{
		"internal_port": portShape(nonZero), "processes": nonZero, "concurrency": concurrency,
		"auto_stop_machines": autostop, "auto_start_machines": notNil, "min_machines_running": notNil,
		"machine_checks": listOf(machineCheck.shape()),
	}
	httpService = fields{
		"force_https": nonZero, "tls_options": tlsOptions.shape(), "http_options": httpOptions.shape(),
		"checks": listOf(httpCheck(time.Nanosecond).shape()), // the only place where a bare number isn't milliseconds
	}
	portService = fields{
		"protocol": nonZero, "ports": listOf(servicePort.shape()),
		"tcp_checks": listOf(times(time.Millisecond).shape()), "http_checks": listOf(httpCheck(time.Millisecond).shape()),
	}
	servicePort = fields{
		"port": portShape(notNil), "start_port": notNil, "end_port": notNil, "handlers": nonZero, "force_https": nonZero,
		"tls_options": tlsOptions.shape(), "http_options": httpOptions.shape(), "proxy_proto_options": fields{"version": nonZero}.shape(),
	}
	tlsOptions  = fields{"alpn": nonZero, "versions": nonZero, "default_self_signed": notNil}
	httpOptions = fields{
		"compress": notNil, "h2_backend": notNil, "idle_timeout": notNil, "headers_read_timeout": notNil,
		"response": fields{"headers": nonZero, "pristine": notNil}.shape(),
		"replay_cache": listOf(fields{
			"path_prefix": withDefault("", notNil), "ttl_seconds": withDefault(0, notNil), "type": withDefault("", notNil), "name": withDefault("", notNil),
			"allow_bypass": nonZero,
		}.shape()),
	}
	topCheck     = fields{"port": notNil, "type": notNil, "processes": nonZero}
	machineCheck = fields{
		"command": nonZero, "image": nonZero, "entrypoint": nonZero, "kill_signal": notNil, "kill_timeout": durationText(time.Nanosecond),
	}
)

func times(unit time.Duration) fields {
	return fields{"interval": durationText(unit), "timeout": durationText(unit), "grace_period": durationText(unit)}
}

func httpCheck(unit time.Duration) fields {
	return times(unit).with(fields{
		"method": notNil, "path": notNil, "protocol": notNil, "tls_skip_verify": notNil, "tls_server_name": notNil, "headers": headerTexts,
	})
}

// useCurrentNames returns root with the current names of settings that have
// older ones.
func useCurrentNames(root object) object {
	out := object{}
	for key, v := range root {
		out[key] = v
	}
	for key, old := range map[string][]string{
		"mounts": {"mount", "mounts"}, "vm": {"compute", "computes", "vm"}, "metrics": {"metric", "metrics"},
	} {
		var all []any
		for _, name := range old {
			all = append(all, tableList(root[name])...)
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
		out["metrics"] = append(tableList(out["metrics"]), legacy)
	}
	if v, ok := experimental["kill_timeout"]; ok && root["kill_timeout"] == nil {
		out["kill_timeout"] = v
	}
	if b, ok := root["build"].(object); ok && b["build_target"] != nil && b["build-target"] == nil {
		b = cloneObject(b)
		b["build-target"] = b["build_target"]
		out["build"] = b
	}
	return out
}

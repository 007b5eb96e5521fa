package flytoml

import (
	"encoding/base64"
	"fmt"
	"path"
	"slices"

	fly "github.com/superfly/fly-go"

	"github.com/microbima/release/fly/flytoml/tomldoc"
)

func (r *reader) readFiles() {
	for _, t := range r.root.List("files") {
		f := file{File: fly.File{GuestPath: t.String("guest_path")}, local: t.String("local_path")}
		if !path.IsAbs(f.GuestPath) {
			t.Errorf("guest_path", "want the absolute path of the file in the machine")
		}
		r.readFileContent(t, &f)
		if len(r.readProcessNames(t)) > 0 {
			t.Warnf("processes", "has no effect; every process group gets every file")
		}
		r.c.files = append(r.c.files, f)
	}
}

// readFileContent reads the content of a file: local_path, secret_name or
// raw_value.
func (r *reader) readFileContent(t *tomldoc.Table, f *file) {
	secret, raw := t.String("secret_name"), t.String("raw_value")
	sources := 0
	for _, source := range []string{f.local, secret, raw} {
		if source != "" {
			sources++
		}
	}
	switch {
	case f.local != "":
		r.addLocalFile(t.Key("local_path"), f.local)
	case secret != "":
		f.SecretName = &secret
	case raw != "":
		encoded := base64.StdEncoding.EncodeToString([]byte(raw))
		f.RawValue = &encoded
		if _, err := base64.StdEncoding.DecodeString(raw); err == nil && len(raw) >= 12 {
			t.Warnf("raw_value", "looks like base64; flyctl does not decode it, contrary to Fly's reference")
		}
	case t.Has("local_path") || t.Has("secret_name") || t.Has("raw_value"):
		t.Warnf("", "has no content, so Fly creates no file; remove the section")
	default:
		t.Errorf("", "has no content; write local_path, secret_name or raw_value")
	}
	if sources > 1 {
		t.Warnf("", "has more than one content; the first of local_path, secret_name and raw_value counts")
	}
}

// maxStatics is the number of [[statics]] that Fly serves for an app.
const maxStatics = 10

func (r *reader) readStatics() {
	taken := map[string]bool{}
	for i, t := range r.root.List("statics") {
		guest, prefix := t.String("guest_path"), t.String("url_prefix")
		switch {
		case !t.Has("guest_path"):
			t.Errorf("guest_path", "missing; write the folder in the machine that has the files")
		case !path.IsAbs(guest) && t.String("tigris_bucket") == "":
			t.Errorf("guest_path", "%q is relative; flyctl uploads such a folder to a bucket at each deploy, which a release does not; "+
				"write a folder in the image, beginning with /, or the tigris_bucket that has the files", guest)
		}
		if !t.Has("url_prefix") {
			t.Errorf("url_prefix", "missing; write the path below which the files are served")
		} else if taken[prefix] {
			t.Warnf("url_prefix", "%q is served from another folder already; Fly honours one", prefix)
		}
		if taken[prefix] = true; i == maxStatics {
			t.Warnf("", "is one more than the %d that Fly serves", maxStatics)
		}
		r.c.statics = append(r.c.statics, &fly.Static{
			GuestPath: guest, UrlPrefix: prefix,
			TigrisBucket: t.String("tigris_bucket"), IndexDocument: t.String("index_document"),
		})
	}
}

func (r *reader) readMetrics() {
	for _, t := range slices.Concat(r.root.Tables("metric"), r.root.Tables("metrics")) {
		m := metrics{processes: r.readProcessNames(t), MachineMetrics: &fly.MachineMetrics{
			Port: deref(readPort(t, "port", false)), Path: t.String("path"), Https: deref(t.Bool("https")),
		}}
		if !t.Has("port") {
			t.Warnf("port", "missing; write the port on which the app serves its metrics")
		}
		if !t.Has("port") && !t.Has("path") && !t.Has("https") {
			m.MachineMetrics = nil
		}
		r.c.metrics = append(r.c.metrics, m)
	}
	if r.legacyMetrics != nil && !r.root.Has("metrics") {
		r.c.metrics = append(r.c.metrics, metrics{MachineMetrics: r.legacyMetrics})
	}
}

func (r *reader) readRestarts() {
	policies := map[string]fly.MachineRestartPolicy{
		"always": fly.MachineRestartPolicyAlways, "on-failure": fly.MachineRestartPolicyOnFailure, "never": fly.MachineRestartPolicyNo,
	}
	for _, t := range r.root.List("restart") {
		policy, ok := policies[t.String("policy")]
		switch v, there := t.Any("policy"); {
		case !there:
			t.Errorf("policy", "missing; write always, on-failure or never")
		case !ok:
			t.Errorf("policy", "%.40q is not a policy; use always, on-failure or never", fmt.Sprint(v))
		}
		r.c.restarts = append(r.c.restarts, restart{
			MachineRestart: fly.MachineRestart{Policy: policy, MaxRetries: deref(readNonNegative(t, "retries"))},
			processes:      r.readProcessNames(t),
		})
	}
}

package flytoml

import "github.com/microbima/release/fly/flytoml/tomldoc"

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
		t.Errorf("compose", "a compose file as a machine's containers is not supported; write them in machine_config")
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
	warnImageSources(t, b)
}

// warnImageSources warns about a [build] with more than one source of an image.
func warnImageSources(t *tomldoc.Table, b *Build) {
	sources := 0
	for _, isSet := range []bool{b.Image != "", b.Dockerfile != "" || b.Target != "", b.Builder != "" || len(b.Buildpacks) > 0, t.String("builtin") != ""} {
		if isSet {
			sources++
		}
	}
	if sources > 1 {
		t.Warnf("", "has more than one source of an image; only the first of image, dockerfile and builder applies")
	}
}

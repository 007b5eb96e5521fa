package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/microbima/release/release"
)

// stamps say by which release a machine is as it is. They differ with every
// release and mean nothing to who runs there.
var stamps = []string{
	"metadata." + release.MetaRelease, "metadata." + release.MetaRevision, "metadata." + release.MetaMachine,
	"metadata.fly_release_id", "metadata.fly_release_version", "metadata.fly_flyctl_version", "image",
}

// Difference says, a line each, which fields of a machine's config become what:
// "env.LOG_LEVEL: info → debug". The image and the stamps of releases are left
// out.
func Difference(before, after json.RawMessage) (lines []string) {
	was, will := fields(before), fields(after)
	all := maps.Clone(was)
	maps.Copy(all, will)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		old, had := was[key]
		now, has := will[key]
		switch {
		case slices.Contains(stamps, key), old == now && had == has:
		case !had:
			lines = append(lines, key+": "+now+" is new")
		case !has:
			lines = append(lines, key+": "+old+" is removed")
		default:
			lines = append(lines, key+": "+old+" → "+now)
		}
	}
	return lines
}

// fields is a document as paths and values. What is empty is nothing: Fly adds
// and drops empty objects as it likes.
func fields(doc json.RawMessage) map[string]string {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	found := map[string]string{}
	if d.Decode(&v) == nil {
		flatten("", v, found)
	}
	return found
}

func flatten(path string, v any, found map[string]string) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for key, value := range v {
			flatten(strings.TrimPrefix(path+"."+key, "."), value, found)
		}
	case []any:
		for i, value := range v {
			flatten(fmt.Sprintf("%s[%d]", path, i), value, found)
		}
	case string:
		found[path] = oneLine(v, 80)
		if v == "" {
			found[path] = `""`
		}
	default:
		found[path] = fmt.Sprint(v)
	}
}

// changes are the config differences of one target's steps, with the machines
// that they are of. Equal differences are said once.
func changes(p release.Plan, target release.Target) (lines []string) {
	var kinds []string
	machines := map[string][]string{}
	for _, s := range p.Steps() {
		if s.Target != target || s.Verb != release.Update {
			continue
		}
		kind := strings.Join(Difference(s.Before, s.After), "\n")
		if kind == "" {
			kind = sameBut(s)
		}
		if _, known := machines[kind]; !known {
			kinds = append(kinds, kind)
		}
		machines[kind] = append(machines[kind], s.Machine)
	}
	for _, kind := range kinds {
		who := ""
		if len(kinds) > 1 {
			who = " (" + strings.Join(machines[kind], ", ") + ")"
		}
		for line := range strings.SplitSeq(kind, "\n") {
			lines = append(lines, line+who)
		}
	}
	return lines
}

// sameBut says why a machine is updated whose config stays as it is.
func sameBut(s release.Step) string {
	switch {
	case s.From.Digest() != s.To.Digest():
		return "config: no difference but the image"
	case imageIn(s.Before) != imageIn(s.After):
		return "config: the same image, named by its digest"
	}
	return "config: no difference; it takes its secrets anew"
}

func imageIn(config json.RawMessage) string {
	var c struct{ Image string }
	if json.Unmarshal(config, &c) != nil {
		return ""
	}
	return c.Image
}

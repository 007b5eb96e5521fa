package view

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/microbima/release/release"
)

// stamps say by which release a machine is as it is. They differ with every
// release and mean nothing to who runs there.
var stamps = []string{
	"metadata." + release.MetaRelease, "metadata." + release.MetaRevision, "metadata." + release.MetaMachine,
	"metadata.fly_release_id", "metadata.fly_release_version", "metadata.fly_flyctl_version", "image",
}

const (
	// excerptRunes is how much of a long value is shown, and excerptLead how much
	// of that before its first difference.
	excerptRunes = 60
	excerptLead  = 20
)

// Difference says, a line each, which fields of a machine's config become what:
// "env.LOG_LEVEL: info → debug". Whole values are compared, and white space is
// visible; of a long value the part around its first difference is shown. The
// image and the stamps of releases are left out.
func Difference(before, after json.RawMessage) []string { return difference(before, after, false) }

// difference is Difference, where whole asks for long values in full.
func difference(before, after json.RawMessage, whole bool) (lines []string) {
	was, will := fields(before), fields(after)
	all := maps.Clone(was)
	maps.Copy(all, will)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		old, had := was[key]
		now, has := will[key]
		switch {
		case slices.Contains(stamps, key), had && has && old == now:
		case !had:
			lines = append(lines, decoded(key, now)+": "+shown(plainly(key, now), whole)+" is new")
		case !has:
			lines = append(lines, decoded(key, old)+": "+shown(plainly(key, old), whole)+" is removed")
		default:
			lines = append(lines, changed(key, old, now, whole))
		}
	}
	return lines
}

// newFields returns a line for each object of a config, with all of its fields:
// "guest is new: cpus=2, memory_mb=1024". Where whole is asked for, each field has
// a line, with the whole value.
func newFields(config json.RawMessage, whole bool) (lines []string) {
	if whole {
		return difference(nil, config, true)
	}
	all, names := fields(config), map[string][]string{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if object, _ := cutField(key); !slices.Contains(stamps, key) {
			names[object] = append(names[object], key)
		}
	}
	for _, object := range slices.Sorted(maps.Keys(names)) {
		if len(names[object]) == 1 {
			key := names[object][0]
			lines = append(lines, decoded(key, all[key])+": "+shown(plainly(key, all[key]), false)+" is new")
			continue
		}
		var parts []string
		for _, key := range names[object] {
			_, name := cutField(key)
			parts = append(parts, decoded(name, all[key])+"="+listed(plainly(key, all[key])))
		}
		if object == "" {
			object = "config"
		}
		lines = append(lines, object+" is new: "+strings.Join(parts, ", "))
	}
	return lines
}

// cutField returns the path of the object that a field is in, and its name there.
func cutField(key string) (object, name string) {
	if i := strings.Index(key, `["`); i >= 0 {
		return key[:i], key[i:]
	}
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		return key[:i], key[i+1:]
	}
	return "", key
}

// listed is shown, for a list with commas.
func listed(value any) string {
	text, isText := value.(string)
	if isText && utf8.RuneCountInString(text) <= excerptRunes && strings.ContainsAny(text, ", ") {
		return quoted(text)
	}
	return shown(value, false)
}

// changed is the line of one field that becomes another.
func changed(key string, old, now any, whole bool) string {
	a, b := plainly(key, old), plainly(key, now)
	if decoded(key, old) != decoded(key, now) || a == b {
		a, b = old, now // as they are stored
	} else {
		key = decoded(key, now)
	}
	was, isText := a.(string)
	will, both := b.(string)
	if whole || !isText || !both || max(utf8.RuneCountInString(was), utf8.RuneCountInString(will)) <= excerptRunes {
		return key + ": " + shown(a, true) + " → " + shown(b, true)
	}
	x, y := []rune(was), []rune(will)
	first := 0
	for first < min(len(x), len(y)) && x[first] == y[first] {
		first++
	}
	return fmt.Sprintf("%s: %s → %s (first difference at character %d; %s before, %d after)",
		key, excerpt(x, first), excerpt(y, first), first+1, count(len(x), "character"), len(y))
}

// excerpt is the part of text around a position.
func excerpt(text []rune, at int) string {
	from := max(0, at-excerptLead)
	to := min(len(text), from+excerptRunes)
	part := quoted(string(text[from:to]))
	if from > 0 {
		part = "…" + part
	}
	if to < len(text) {
		part += "…"
	}
	return part
}

// shown is a value as people read it: text that might be mistaken for something
// else in quotes, with all that is not seen written out.
func shown(value any, whole bool) string {
	text, isText := value.(string)
	switch {
	case !isText:
		return Escape(fmt.Sprint(value))
	case !whole && utf8.RuneCountInString(text) > excerptRunes:
		return excerpt([]rune(text), 0) + fmt.Sprintf(" (%s)", count(utf8.RuneCountInString(text), "character"))
	case isPlain(text):
		return text
	}
	return quoted(text)
}

// isPlain reports whether text needs no quotes: it is seen as it is, and cannot
// be taken for a number, for two values, or for quoted text.
func isPlain(text string) bool {
	var literal any
	if text == "" || isHostile(text) || json.Unmarshal([]byte(text), &literal) == nil {
		return false
	}
	odd := func(r rune) bool { return r == '\\' || r == '"' || r != ' ' && unicode.IsSpace(r) }
	return !strings.ContainsFunc(text, odd) && strings.TrimSpace(text) == text &&
		!strings.Contains(text, "  ") && !strings.Contains(text, " → ") && !strings.Contains(text, " is ")
}

// quoted is text in quotes, so that equal results mean equal texts.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			b.WriteString(Escape(text[i : i+1]))
		case r != ' ' && unicode.IsSpace(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(Escape(string(r)))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// decoded is the name of a field, which says so where its value is shown
// decoded: the content of a file, which configs hold in base64.
func decoded(key string, value any) string {
	if _, ok := content(key, value); ok {
		return key + " (decoded)"
	}
	return key
}

// plainly is the value of a field, decoded where it is the content of a file.
func plainly(key string, value any) any {
	if text, ok := content(key, value); ok {
		return text
	}
	return value
}

func content(key string, value any) (string, bool) {
	text, ok := value.(string)
	if !ok || text == "" || !strings.HasSuffix(key, ".raw_value") {
		return "", false
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	return string(raw), err == nil && utf8.Valid(raw)
}

// fields is a document as paths and values: string, json.Number, or bool. What is
// empty is nothing: Fly adds and drops empty objects as it likes.
func fields(doc json.RawMessage) map[string]any {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	found := map[string]any{}
	if d.Decode(&v) == nil {
		flatten("", v, found)
	}
	return found
}

func flatten(path string, v any, found map[string]any) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for key, value := range v {
			flatten(under(path, key), value, found)
		}
	case []any:
		for i, value := range v {
			flatten(fmt.Sprintf("%s[%d]", path, i), value, found)
		}
	default:
		found[path] = v
	}
}

// under is the path of a key in the object at path: no two keys have the same.
func under(path, key string) string {
	word := func(r rune) bool {
		return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	switch {
	case key == "" || strings.ContainsFunc(key, func(r rune) bool { return !word(r) }):
		return path + "[" + quoted(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

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

// releaseMetadata lists the fields that name the release of a machine. They change
// with every release and have no effect on the app.
var releaseMetadata = []string{
	"metadata." + release.MetaRelease, "metadata." + release.MetaRevision, "metadata." + release.MetaMachine,
	"metadata.fly_release_id", "metadata.fly_release_version", "metadata.fly_flyctl_version", "image",
}

const (
	// excerptRunes is the length of an excerpt of a long value. excerptLead is the
	// part of it before the first difference.
	excerptRunes = 60
	excerptLead  = 20
)

// Difference returns a line for each field in which two machine configs differ:
// "env.LOG_LEVEL: info → debug". It compares whole values and makes white space
// visible; of a long value it shows the part around the first difference. The
// image and the metadata of releases are left out.
func Difference(before, after json.RawMessage) []string { return difference(before, after, false) }

// difference implements Difference. With whole, long values are shown in full.
func difference(before, after json.RawMessage, whole bool) (lines []string) {
	was, will := flattenJSON(before), flattenJSON(after)
	all := maps.Clone(was)
	maps.Copy(all, will)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		old, had := was[key]
		now, has := will[key]
		switch {
		case slices.Contains(releaseMetadata, key), had && has && old == now:
		case !had:
			lines = append(lines, fieldLabel(key, now)+": "+formatValue(decodeField(key, now), whole)+" is new")
		case !has:
			lines = append(lines, fieldLabel(key, old)+": "+formatValue(decodeField(key, old), whole)+" is removed")
		default:
			lines = append(lines, changeLine(key, old, now, whole))
		}
	}
	return lines
}

// newFields returns a line for each object of a config, with all of its fields:
// "guest is new: cpus=2, memory_mb=1024". With whole, each field has a line, with
// the whole value.
func newFields(config json.RawMessage, whole bool) (lines []string) {
	if whole {
		return difference(nil, config, true)
	}
	all, names := flattenJSON(config), map[string][]string{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if object, _ := splitField(key); !slices.Contains(releaseMetadata, key) {
			names[object] = append(names[object], key)
		}
	}
	for _, object := range slices.Sorted(maps.Keys(names)) {
		if len(names[object]) == 1 {
			key := names[object][0]
			lines = append(lines, fieldLabel(key, all[key])+": "+formatValue(decodeField(key, all[key]), false)+" is new")
			continue
		}
		var parts []string
		for _, key := range names[object] {
			_, name := splitField(key)
			parts = append(parts, fieldLabel(name, all[key])+"="+formatListItem(decodeField(key, all[key])))
		}
		if object == "" {
			object = "config"
		}
		lines = append(lines, object+" is new: "+strings.Join(parts, ", "))
	}
	return lines
}

// splitField splits the path of a field into its object and its name.
func splitField(key string) (object, name string) {
	if i := strings.Index(key, `["`); i >= 0 {
		return key[:i], key[i:]
	}
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		return key[:i], key[i+1:]
	}
	return "", key
}

// formatListItem is formatValue for an item of a list with commas.
func formatListItem(value any) string {
	text, isText := value.(string)
	if isText && utf8.RuneCountInString(text) <= excerptRunes && strings.ContainsAny(text, ", ") {
		return quote(text)
	}
	return formatValue(value, false)
}

// changeLine returns the line of a field whose value changes.
func changeLine(key string, old, now any, whole bool) string {
	a, b := decodeField(key, old), decodeField(key, now)
	if fieldLabel(key, old) != fieldLabel(key, now) || a == b {
		a, b = old, now // as they are stored
	} else {
		key = fieldLabel(key, now)
	}
	was, isText := a.(string)
	will, both := b.(string)
	if whole || !isText || !both || max(utf8.RuneCountInString(was), utf8.RuneCountInString(will)) <= excerptRunes {
		return key + ": " + formatValue(a, true) + " → " + formatValue(b, true)
	}
	x, y := []rune(was), []rune(will)
	first := 0
	for first < min(len(x), len(y)) && x[first] == y[first] {
		first++
	}
	return fmt.Sprintf("%s: %s → %s (first difference at character %d; %s before, %d after)",
		key, quoteExcerpt(x, first), quoteExcerpt(y, first), first+1, count(len(x), "character"), len(y))
}

// quoteExcerpt returns the part of text around a position, in quotes.
func quoteExcerpt(text []rune, at int) string {
	from := max(0, at-excerptLead)
	to := min(len(text), from+excerptRunes)
	part := quote(string(text[from:to]))
	if from > 0 {
		part = "…" + part
	}
	if to < len(text) {
		part += "…"
	}
	return part
}

// formatValue returns a value as text. A string that could be mistaken for something
// else is quoted, with invisible characters escaped.
func formatValue(value any, whole bool) string {
	text, isText := value.(string)
	switch {
	case !isText:
		return Escape(fmt.Sprint(value))
	case !whole && utf8.RuneCountInString(text) > excerptRunes:
		return quoteExcerpt([]rune(text), 0) + fmt.Sprintf(" (%s)", count(utf8.RuneCountInString(text), "character"))
	case isPlain(text):
		return text
	}
	return quote(text)
}

// isPlain reports whether text needs no quotes: all of it is visible, and it cannot
// be mistaken for a number, for two values, or for quoted text.
func isPlain(text string) bool {
	var literal any
	if text == "" || needsEscape(text) || json.Unmarshal([]byte(text), &literal) == nil {
		return false
	}
	odd := func(r rune) bool { return r == '\\' || r == '"' || r != ' ' && unicode.IsSpace(r) }
	return !strings.ContainsFunc(text, odd) && strings.TrimSpace(text) == text &&
		!strings.Contains(text, "  ") && !strings.Contains(text, " → ") && !strings.Contains(text, " is ")
}

// quote returns text in quotes. Different texts give different results.
func quote(text string) string {
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

// fieldLabel returns the name of a field, marked where decodeField decodes its value:
// configs hold the content of files in base64.
func fieldLabel(key string, value any) string {
	if _, ok := fileContent(key, value); ok {
		return key + " (decoded)"
	}
	return key
}

// decodeField returns the value of a field, decoded if it is the content of a file.
func decodeField(key string, value any) any {
	if text, ok := fileContent(key, value); ok {
		return text
	}
	return value
}

func fileContent(key string, value any) (string, bool) {
	text, ok := value.(string)
	if !ok || text == "" || !strings.HasSuffix(key, ".raw_value") {
		return "", false
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	return string(raw), err == nil && utf8.Valid(raw)
}

// flattenJSON returns the values of a document by path: string, json.Number or bool.
// Empty objects have no path, because Fly adds and drops them.
func flattenJSON(doc json.RawMessage) map[string]any {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	fields := map[string]any{}
	if d.Decode(&v) == nil {
		addFields("", v, fields)
	}
	return fields
}

func addFields(path string, v any, fields map[string]any) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for key, value := range v {
			addFields(joinPath(path, key), value, fields)
		}
	case []any:
		for i, value := range v {
			addFields(fmt.Sprintf("%s[%d]", path, i), value, fields)
		}
	default:
		fields[path] = v
	}
}

// joinPath returns the path of a key in the object at path. Different keys have
// different paths.
func joinPath(path, key string) string {
	word := func(r rune) bool {
		return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	switch {
	case key == "" || strings.ContainsFunc(key, func(r rune) bool { return !word(r) }):
		return path + "[" + quote(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

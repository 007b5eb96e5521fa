package flytoml

import (
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A shape brings a value of a file that was found good into the form of a
// definition. v is nil where the file says nothing; a value that isn't ok is
// left out.
type shape func(v any) (out any, ok bool)

// fields are the keys of a table that a definition knows, and their shapes.
type fields map[string]shape

func (f fields) with(more fields) fields {
	all := maps.Clone(f)
	maps.Copy(all, more)
	return all
}

func (f fields) shape() shape {
	return func(v any) (any, bool) {
		t, ok := v.(object)
		out := object{}
		for key, shape := range f {
			if v, ok := shape(t[key]); ok {
				out[key] = v
			}
		}
		return out, ok
	}
}

func notNil(v any) (any, bool) { return v, v != nil }

func nonZero(v any) (any, bool) {
	r := reflect.ValueOf(v)
	switch {
	case v == nil || r.IsZero():
		return nil, false
	case r.Kind() == reflect.Slice || r.Kind() == reflect.Map:
		return v, r.Len() > 0
	}
	return v, true
}

// printed is a size, with or without a unit, as text.
func sizeText(v any) (any, bool) {
	if v == nil {
		return nil, false
	}
	return nonZero(fmt.Sprint(v))
}

func persistRootfs(v any) (any, bool) {
	if v == "none" {
		return nil, false
	}
	return nonZero(v)
}

// words is a list of strings, or a single one.
func stringOrStrings(v any) (any, bool) {
	if s, ok := v.(string); ok {
		return []string{s}, true
	}
	return nonZero(v)
}

// lasting is a duration: a string with a unit, or a number of units.
func durationText(unit time.Duration) shape {
	return func(v any) (any, bool) {
		var d time.Duration
		switch v := v.(type) {
		case string:
			var err error
			if d, err = time.ParseDuration(v); err != nil {
				return nil, false
			}
		case int64:
			d = time.Duration(v) * unit
		case float64:
			d = time.Duration(v) * unit
		default:
			return nil, false
		}
		return d.String(), true
	}
}

// otherwise stands in for what the file doesn't say.
func withDefault(v any, s shape) shape {
	return func(said any) (any, bool) {
		if said == nil {
			said = v
		}
		return s(said)
	}
}

func nonEmptyTable(s shape) shape {
	return func(v any) (any, bool) {
		if t, _ := v.(object); len(t) == 0 {
			return nil, false
		}
		return s(v)
	}
}

func listOf(s shape) shape {
	return func(v any) (any, bool) {
		var out []any
		for _, v := range tableList(v) {
			if v, ok := s(v); ok {
				out = append(out, v)
			}
		}
		return out, len(out) > 0
	}
}

// tables is a list of tables, or a single one.
func tableList(v any) []any {
	if t, ok := v.(object); ok {
		return []any{t}
	}
	all, _ := v.([]any)
	return all
}

// merged is a table of texts, or a list of such tables.
func mergedTables(v any) (any, bool) {
	out := object{}
	for _, v := range tableList(v) {
		t, _ := v.(object)
		for name, v := range t {
			out[name] = fmt.Sprint(v)
		}
	}
	return out, len(out) > 0
}

// named is a table of tables by name, or a list of tables that have one.
func namedTables(s shape) shape {
	return func(v any) (any, bool) {
		all, ok := v.(object)
		if !ok {
			all = tablesByName(v, func(t object) any { return t })
		}
		out := object{}
		for name, v := range all {
			out[name], _ = s(v)
		}
		return out, len(out) > 0
	}
}

// commands is [processes]: a table, or a list with name and command.
func processCommands(v any) (any, bool) {
	if _, ok := v.(object); ok {
		return mergedTables(v)
	}
	return nonZero(tablesByName(v, func(t object) any { return textOf(t["command"]) }))
}

// headerTexts is a table of headers, or a list with name and value.
func headerTexts(v any) (any, bool) {
	if _, ok := v.(object); ok {
		return mergedTables(v)
	}
	return nonZero(tablesByName(v, func(t object) any { return textOf(t["value"]) }))
}

func tablesByName(v any, of func(object) any) object {
	out := object{}
	for _, v := range tableList(v) {
		if t, ok := v.(object); ok && t["name"] != nil {
			out[textOf(t["name"])] = of(t)
		}
	}
	return out
}

func textOf(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// portNumbered is a port; old files have some as strings.
func portShape(s shape) shape {
	return func(v any) (any, bool) {
		if text, ok := v.(string); ok {
			n, err := strconv.Atoi(text)
			if err != nil {
				return nil, false
			}
			v = n
		}
		return s(v)
	}
}

func concurrency(v any) (any, bool) {
	if s, ok := v.(string); ok { // "20,25", how it was once written
		soft, hard, _ := strings.Cut(s, ",")
		low, _ := strconv.Atoi(soft)
		high, _ := strconv.Atoi(hard)
		v = object{"type": "requests", "soft_limit": low, "hard_limit": high}
	}
	return fields{"type": nonZero, "soft_limit": nonZero, "hard_limit": nonZero}.shape()(v)
}

func autostop(v any) (any, bool) {
	switch v {
	case true, "stop":
		return true, true
	case false, "off":
		return false, true
	}
	return notNil(v)
}

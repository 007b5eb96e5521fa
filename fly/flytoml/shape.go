package flytoml

import (
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A shape converts a value of a valid file to its form in a definition. v is
// nil if the file does not have it; if ok is false, the definition does not.
type shape func(v any) (out any, ok bool)

// fields has the shapes of the keys of a table.
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

// sizeText is a size, with or without a unit, as text.
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

// stringOrStrings is a list of strings, or a single one.
func stringOrStrings(v any) (any, bool) {
	if s, ok := v.(string); ok {
		return []string{s}, true
	}
	return nonZero(v)
}

// durationText is a duration: a string with a unit, or a number of units.
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

// withDefault replaces a missing value by v.
func withDefault(v any, s shape) shape {
	return func(given any) (any, bool) {
		if given == nil {
			given = v
		}
		return s(given)
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

// tableList returns a list of tables, or a single table as a list.
func tableList(v any) []any {
	if t, ok := v.(object); ok {
		return []any{t}
	}
	all, _ := v.([]any)
	return all
}

// mergedTables is a table of texts, or a list of such tables.
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

// namedTables is a table of tables by name, or a list of tables with a name.
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

// processCommands is [processes]: a table, or a list with name and command.
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

// portShape is a port; old files have strings.
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
	if s, ok := v.(string); ok { // "20,25": old form
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

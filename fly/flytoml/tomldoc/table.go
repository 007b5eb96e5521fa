package tomldoc

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Table is one table of a document. Asking for a key marks it as known. A key
// of the wrong type is recorded as a mistake and then treated as missing.
type Table struct {
	doc    *Doc
	path   string
	values map[string]any
	known  []string
	closed bool
}

// Path returns the table's dotted name; "" for the root.
func (t *Table) Path() string { return t.path }

// Key returns the dotted name of a key of this table.
func (t *Table) Key(key string) string { return joinKey(t.path, key) }

// Empty reports whether the table has no keys.
func (t *Table) Empty() bool { return len(t.values) == 0 }

// Has reports whether the table has key, of any type.
func (t *Table) Has(key string) bool {
	_, ok := t.Any(key)
	return ok
}

// Keys returns the names in this table, sorted, and marks them all as known.
func (t *Table) Keys() []string {
	keys := slices.Sorted(maps.Keys(t.values))
	t.known = append(t.known, keys...)
	return keys
}

// Any returns the decoded value of key.
func (t *Table) Any(key string) (any, bool) {
	t.Know(key)
	v, ok := t.values[key]
	return v, ok
}

// Values returns the decoded table, including unknown keys. It must not be
// modified.
func (t *Table) Values() map[string]any { return t.values }

// Know marks keys as known without reading them.
func (t *Table) Know(keys ...string) { t.known = append(t.known, keys...) }

// Errorf records a mistake at a key of this table, or at the table itself if
// key is "".
func (t *Table) Errorf(key, format string, args ...any) {
	t.doc.Errorf(t.problemKey(key), format, args...)
}

// Warnf records a warning in the same way.
func (t *Table) Warnf(key, format string, args ...any) {
	t.doc.Warnf(t.problemKey(key), format, args...)
}

func (t *Table) problemKey(key string) string {
	if key == "" {
		return t.path
	}
	return t.Key(key)
}

// String returns a string, "" if missing.
func (t *Table) String(key string) string {
	s, _ := getTyped[string](t, key, "a string")
	return s
}

// StringPtr returns a string, nil if missing.
func (t *Table) StringPtr(key string) *string { return pointer(getTyped[string](t, key, "a string")) }

// Bool returns a boolean, nil if missing.
func (t *Table) Bool(key string) *bool { return pointer(getTyped[bool](t, key, "true or false")) }

// Int returns a whole number that fits an int32, nil if missing.
func (t *Table) Int(key string) *int {
	v, ok := t.Any(key)
	if !ok {
		return nil
	}
	n, whole := wholeNumber(v)
	switch {
	case !whole:
		t.reportType(key, v, "a whole number")
		return nil
	case n > math.MaxInt32 || n < math.MinInt32:
		t.Errorf(key, "%d is too large a number", n)
		return nil
	}
	i := int(n)
	return &i
}

// Float returns a number, nil if missing.
func (t *Table) Float(key string) *float64 {
	v, ok := t.Any(key)
	if !ok {
		return nil
	}
	switch n := v.(type) {
	case int64:
		f := float64(n)
		return &f
	case float64:
		if !math.IsNaN(n) && !math.IsInf(n, 0) {
			return &n
		}
	}
	t.reportType(key, v, "a number")
	return nil
}

// Strings returns a list of strings, nil if missing.
func (t *Table) Strings(key string) []string {
	list, ok := getTyped[[]any](t, key, "a list of strings")
	if !ok {
		return nil
	}
	out := make([]string, 0, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			t.doc.Errorf(fmt.Sprintf("%s[%d]", t.Key(key), i), "want a string, have %s", describeValue(v))
			continue
		}
		out = append(out, s)
	}
	return out
}

// Duration returns a duration, nil if missing: a string with a unit, or a bare
// number that counts units. With unit 0 a bare number is a mistake; a negative
// duration always is.
func (t *Table) Duration(key string, unit time.Duration) *time.Duration {
	v, ok := t.Any(key)
	if !ok {
		return nil
	}
	var d time.Duration
	switch v := v.(type) {
	case string:
		var err error
		if d, err = time.ParseDuration(v); err != nil {
			t.Errorf(key, "%q is not a duration; write it like \"90s\", \"5m\" or \"1h30m\"", v)
			return nil
		}
	case int64, float64:
		n, whole := wholeNumber(v)
		switch {
		case !whole:
			t.reportType(key, v, "a duration like \"30s\"")
			return nil
		case unit == 0:
			t.Errorf(key, "needs a unit, like \"%ds\"; got %[1]d", n)
			return nil
		}
		d = time.Duration(n) * unit
		if d/unit != time.Duration(n) {
			t.Errorf(key, "%d is too long", n)
			return nil
		}
	default:
		t.reportType(key, v, "a duration like \"30s\"")
		return nil
	}
	if d < 0 {
		t.Errorf(key, "must be 0s or more, got %s", d)
		return nil
	}
	return &d
}

// Table returns a table, nil if missing.
func (t *Table) Table(key string) *Table {
	values, ok := getTyped[map[string]any](t, key, "a table")
	if !ok {
		return nil
	}
	return t.doc.newTable(t.Key(key), values)
}

// Tables returns a list of tables, [[key]]; for a single [key], a list of one.
func (t *Table) Tables(key string) []*Table {
	v, ok := t.Any(key)
	if !ok {
		return nil
	}
	if values, ok := v.(map[string]any); ok {
		return []*Table{t.doc.newTable(t.Key(key), values)}
	}
	list, ok := v.([]any)
	if !ok {
		t.reportType(key, v, "a table, or a list of them")
		return nil
	}
	var tables []*Table
	for i, v := range list {
		path := fmt.Sprintf("%s[%d]", t.Key(key), i)
		if values, ok := v.(map[string]any); ok {
			tables = append(tables, t.doc.newTable(path, values))
		} else {
			t.doc.Errorf(path, "want a table, have %s", describeValue(v))
		}
	}
	return tables
}

// List returns a list of tables like Tables, but a single [key] is a mistake.
func (t *Table) List(key string) []*Table {
	if v, _ := t.Any(key); describeValue(v) == "a table" {
		t.Errorf(key, "want a list of tables, have one; write [[%s]]", unnumbered.ReplaceAllString(t.Key(key), ""))
		t.Table(key).Ignore()
		return nil
	}
	return t.Tables(key)
}

// unnumbered matches the indexes in a dotted name, which headers don't have.
var unnumbered = regexp.MustCompile(`\[\d+\]`)

// Subtables returns the names in this table whose values are tables, sorted,
// and marks them as known.
func (t *Table) Subtables() (names []string) {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if _, ok := t.values[key].(map[string]any); ok {
			t.Know(key)
			names = append(names, key)
		}
	}
	return names
}

// Ignore excludes the table from the check for unknown keys.
func (t *Table) Ignore() { t.closed = true }

func (t *Table) reportUnknown() {
	if t.closed {
		return
	}
	slices.Sort(t.known)
	known := slices.Compact(t.known)
	for key := range t.values {
		if slices.Contains(known, key) {
			continue
		}
		if near := Nearest(key, known); near != "" {
			t.Errorf(key, "no such setting; did you mean %s?", near)
		} else {
			t.Errorf(key, "no such setting; there are: %s", strings.Join(known, ", "))
		}
	}
}

// wholeNumber returns v as an integer; 8080.0 counts as one.
func wholeNumber(v any) (n int64, ok bool) {
	if f, ok := v.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f), true
	}
	n, ok = v.(int64)
	return n, ok
}

func (t *Table) reportType(key string, v any, want string) {
	t.Errorf(key, "want %s, have %s", want, describeValue(v))
}

func getTyped[T any](t *Table, key, want string) (T, bool) {
	v, ok := t.Any(key)
	if !ok {
		return *new(T), false
	}
	typed, ok := v.(T)
	if !ok {
		t.reportType(key, v, want)
	}
	return typed, ok
}

func pointer[T any](v T, ok bool) *T {
	if !ok {
		return nil
	}
	return &v
}

func describeValue(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("the string %.40q", v)
	case int64, float64, bool:
		return fmt.Sprintf("%v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date"
}

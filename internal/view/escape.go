package view

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Escape returns text with every character escaped that acts on a terminal or is
// invisible: control characters (C0 and C1), bidirectional and zero-width
// characters, and bytes that are not UTF-8. Line feeds and tabs stay; a carriage
// return and a line feed become one line feed.
//
// All text from outside of this program is escaped before it is shown: the views of
// this package escape their arguments, commands escape what they print themselves.
func Escape(text string) string {
	if strings.Contains(text, "\r\n") {
		text = strings.ReplaceAll(text, "\r\n", "\n")
	}
	if !needsEscape(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !isInvisible(r):
			b.WriteRune(r)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// EscapeJSON returns an equal JSON document in which the characters that Escape
// escapes are JSON escapes, so that a terminal can show it.
func EscapeJSON(doc []byte) []byte {
	if !needsEscape(string(doc)) {
		return doc
	}
	var b strings.Builder
	for _, r := range string(doc) {
		switch {
		case r == '\n' || !isInvisible(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return []byte(b.String())
}

// needsEscape reports whether text has a character or byte that Escape escapes.
func needsEscape(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c >= utf8.RuneSelf:
			return strings.ContainsFunc(text[i:], isInvisible) || !utf8.ValidString(text[i:])
		case isInvisible(rune(c)):
			return true
		}
	}
	return false
}

// isInvisible reports whether r acts on a terminal or shows nothing on it.
func isInvisible(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < 0x20:
		return true
	case r < 0x7f:
		return false
	}
	return unicode.In(r, invisible...)
}

// invisible lists control and format characters, line and paragraph separators,
// variation selectors, default ignorables and noncharacters of Unicode, and the
// Braille pattern without dots.
var invisible = []*unicode.RangeTable{
	unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp,
	unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point, unicode.Noncharacter_Code_Point,
	{R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}},
}

// multilineFields names the struct fields whose text may have several lines. In all
// others a line feed becomes a space: a name must not add a line to the screen.
var multilineFields = map[string]bool{"Tail": true, "Message": true}

// escapeAll returns v with every string in it escaped. It copies what it changes.
func escapeAll[T any](v T) T {
	value := reflect.ValueOf(&v).Elem()
	if hasEscapable(value, false) {
		value.Set(escapeValue(value, false))
	}
	return v
}

// escapeLine returns text escaped and on one line.
func escapeLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		return r
	}, Escape(text))
}

// hasEscapable reports whether escapeValue would change v.
func hasEscapable(v reflect.Value, lines bool) bool {
	switch v.Kind() {
	case reflect.String:
		return isEscapable(v.String(), lines)
	case reflect.Pointer:
		return !v.IsNil() && hasEscapable(v.Elem(), lines)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return false // a document, whose parts are escaped when they are shown
		}
		for i := range v.Len() {
			if hasEscapable(v.Index(i), lines) {
				return true
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if hasEscapable(key, lines) || hasEscapable(v.MapIndex(key), lines) {
				return true
			}
		}
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			if hasEscapable(v.Field(f.index), f.multiline) {
				return true
			}
		}
	}
	return false
}

// isEscapable reports whether text needs an escape, or unless lines is true, a space in
// place of a line feed or tab.
func isEscapable(text string, lines bool) bool {
	return needsEscape(text) || !lines && strings.ContainsAny(text, "\n\t")
}

// A field is an exported field of a struct.
type field struct {
	index     int
	multiline bool
}

var fieldCache sync.Map // []field by reflect.Type

// fieldsOf returns the exported fields of a struct type. They are cached: a status is
// escaped after each change of a machine, and reading names by reflection is slow.
func fieldsOf(t reflect.Type) []field {
	if known, ok := fieldCache.Load(t); ok {
		return known.([]field)
	}
	var all []field
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			all = append(all, field{i, multilineFields[f.Name]})
		}
	}
	fieldCache.Store(t, all)
	return all
}

// escapeValue returns a deep copy of v with escaped strings. Where lines is true,
// line feeds and tabs stay.
func escapeValue(v reflect.Value, lines bool) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.String:
		if lines {
			out.SetString(Escape(v.String()))
		} else {
			out.SetString(escapeLine(v.String()))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(escapeValue(v.Elem(), lines))
		}
	case reflect.Slice:
		if v.IsNil() || v.Type().Elem().Kind() == reflect.Uint8 {
			break
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(escapeValue(v.Index(i), lines))
		}
	case reflect.Map:
		if v.IsNil() {
			break
		}
		out.Set(reflect.MakeMap(v.Type()))
		for _, key := range v.MapKeys() {
			out.SetMapIndex(escapeValue(key, lines), escapeValue(v.MapIndex(key), lines))
		}
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			out.Field(f.index).Set(escapeValue(v.Field(f.index), f.multiline))
		}
	}
	return out
}

package view

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Escape returns text with every character written out that acts on a terminal
// or that nobody sees: control characters (C0 and C1), bidirectional and
// zero-width ones, and bytes that are no UTF-8. A line feed and a tab stay; a
// line feed after a carriage return is one line feed.
//
// All text that is not this program's own passes here before it is shown: the
// views of this package call it for each value that they are given, commands for
// what they print themselves.
func Escape(text string) string {
	if strings.Contains(text, "\r\n") {
		text = strings.ReplaceAll(text, "\r\n", "\n")
	}
	if !isHostile(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !isUnseen(r):
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

// EscapeJSON returns a JSON document with the characters that Escape writes out
// as JSON's own escapes: it says the same, and a terminal may show it.
func EscapeJSON(doc []byte) []byte {
	if !isHostile(string(doc)) {
		return doc
	}
	var b strings.Builder
	for _, r := range string(doc) {
		switch {
		case r == '\n' || !isUnseen(r):
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

// isHostile reports whether Escape would change text.
func isHostile(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c >= utf8.RuneSelf:
			return strings.ContainsFunc(text[i:], isUnseen) || !utf8.ValidString(text[i:])
		case isUnseen(rune(c)):
			return true
		}
	}
	return false
}

// isUnseen reports whether r acts on a terminal or leaves no mark on it.
func isUnseen(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < 0x20:
		return true
	case r < 0x7f:
		return false
	}
	return unicode.In(r, unseen...)
}

// unseen are control and format characters, line and paragraph separators,
// variation selectors, what Unicode wants ignored or keeps for processes, and the
// Braille pattern without dots.
var unseen = []*unicode.RangeTable{
	unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp,
	unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point, unicode.Noncharacter_Code_Point,
	{R16: []unicode.Range16{{Lo: 0x2800, Hi: 0x2800, Stride: 1}}},
}

// multiline are the fields whose text has lines of its own. In any other a line
// feed is a space: a name must not make a line of the screen.
var multiline = map[string]bool{"Tail": true, "Message": true}

// clean returns v with every string in it escaped. What v shares with others is
// copied before it is changed.
func clean[T any](v T) T {
	value := reflect.ValueOf(&v).Elem()
	if isDirty(value, false) {
		value.Set(cleaned(value, false))
	}
	return v
}

// cleanLine returns text escaped and on one line.
func cleanLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		return r
	}, Escape(text))
}

func isDirty(v reflect.Value, lines bool) bool {
	switch v.Kind() {
	case reflect.String:
		return isHostile(v.String()) || !lines && strings.ContainsAny(v.String(), "\n\t")
	case reflect.Pointer:
		return !v.IsNil() && isDirty(v.Elem(), lines)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return false // a document: what is shown of it is escaped then
		}
		for i := range v.Len() {
			if isDirty(v.Index(i), lines) {
				return true
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			if isDirty(key, lines) || isDirty(v.MapIndex(key), lines) {
				return true
			}
		}
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			if isDirty(v.Field(f.index), f.lines) {
				return true
			}
		}
	}
	return false
}

// A field is an exported field of a struct, whose text may have lines of its own.
type field struct {
	index int
	lines bool
}

var exported sync.Map // []field by reflect.Type

// fieldsOf returns the exported fields of a struct type. A status is looked at
// after each change of a machine, and reflection is slow at telling the names.
func fieldsOf(t reflect.Type) []field {
	if known, ok := exported.Load(t); ok {
		return known.([]field)
	}
	var all []field
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			all = append(all, field{i, multiline[f.Name]})
		}
	}
	exported.Store(t, all)
	return all
}

func cleaned(v reflect.Value, lines bool) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.String:
		if lines {
			out.SetString(Escape(v.String()))
		} else {
			out.SetString(cleanLine(v.String()))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(cleaned(v.Elem(), lines))
		}
	case reflect.Slice:
		if v.IsNil() || v.Type().Elem().Kind() == reflect.Uint8 {
			break
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(cleaned(v.Index(i), lines))
		}
	case reflect.Map:
		if v.IsNil() {
			break
		}
		out.Set(reflect.MakeMap(v.Type()))
		for _, key := range v.MapKeys() {
			out.SetMapIndex(cleaned(key, lines), cleaned(v.MapIndex(key), lines))
		}
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			out.Field(f.index).Set(cleaned(v.Field(f.index), f.lines))
		}
	}
	return out
}

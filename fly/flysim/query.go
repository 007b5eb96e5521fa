package flysim

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/scanner"
)

// A selection is a field that a GraphQL question asks for.
type selection struct {
	as     string // the name it has in the answer
	name   string
	args   map[string]any // variables filled in; numbers are float64
	fields []selection    // none of a scalar
	on     string         // the type that the object must have; "" is any
}

// A resolver answers a field that has arguments.
type resolver func(args map[string]any) any

// pick gives what is asked of v, which is a scalar, an object, a list or a
// resolver. What an object does not have is null.
func (f selection) pick(v any) any {
	if r, ok := v.(resolver); ok {
		v = r(f.args)
	}
	switch v := v.(type) {
	case map[string]any:
		if len(f.fields) == 0 || v == nil {
			return v // a JSON scalar, or nothing
		}
		return pickAll(f.fields, v)
	case []any:
		out := make([]any, len(v))
		for i, one := range v {
			out[i] = f.pick(one)
		}
		return out
	}
	return v
}

func pickAll(fields []selection, from map[string]any) map[string]any {
	out := map[string]any{}
	for _, f := range fields {
		if kind, ok := from["__typename"]; !ok || f.on == "" || kind == f.on {
			out[f.as] = f.pick(from[f.name])
		}
	}
	return out
}

// A questionReader reads a GraphQL document: one operation, and the fragments
// it uses. It is generous: it looks at no types.
type questionReader struct {
	scan      scanner.Scanner
	token     rune
	variables map[string]any
	fragments map[string][]selection // filled where they are met, read at the end
	failed    error
}

// readQuestion gives the fields that a document asks for, and whether it is a
// mutation.
func readQuestion(text string, variables map[string]any) (fields []selection, mutation bool, err error) {
	p := &questionReader{variables: map[string]any{}, fragments: map[string][]selection{}}
	for name, v := range variables {
		p.variables[name] = v
	}
	p.scan.Init(strings.NewReader(text))
	p.scan.Mode = scanner.ScanIdents | scanner.ScanInts | scanner.ScanFloats | scanner.ScanStrings
	p.scan.Whitespace |= 1 << ','
	p.scan.Error = func(_ *scanner.Scanner, what string) { p.fail(what) }
	for p.next(); p.token != scanner.EOF && p.failed == nil; {
		switch {
		case p.token == '{':
			fields = p.selections()
		case p.word("fragment"):
			name := p.name()
			p.name() // "on"
			on := p.name()
			p.fragments[name] = narrowed(p.selections(), on)
		case p.word("query") || p.word("subscription"):
			fields = p.operation()
		case p.word("mutation"):
			mutation = true
			fields = p.operation()
		default:
			p.fail("unexpected " + p.scan.TokenText())
		}
	}
	return p.spread(fields, 0), mutation, p.failed
}

// next goes on to the next token, past comments.
func (p *questionReader) next() {
	for p.token = p.scan.Scan(); p.token == '#'; p.token = p.scan.Scan() {
		for r := p.scan.Peek(); r != '\n' && r != scanner.EOF; r = p.scan.Peek() {
			p.scan.Next()
		}
	}
}

func (p *questionReader) fail(what string) {
	if p.failed == nil {
		p.failed = fmt.Errorf("line %d: %s", p.scan.Line, what)
	}
	p.token = scanner.EOF
}

// word takes one particular name, if it comes next.
func (p *questionReader) word(w string) bool {
	if p.token != scanner.Ident || p.scan.TokenText() != w {
		return false
	}
	p.next()
	return true
}

// sign takes one particular sign, if it comes next.
func (p *questionReader) sign(s rune) bool {
	if p.token != s {
		return false
	}
	p.next()
	return true
}

func (p *questionReader) expect(s rune) {
	if !p.sign(s) {
		p.fail(fmt.Sprintf("expected %q, not %q", s, p.scan.TokenText()))
	}
}

func (p *questionReader) name() string {
	text := p.scan.TokenText()
	p.expect(scanner.Ident)
	return text
}

// operation is what follows "query": a name, variables, directives, fields.
func (p *questionReader) operation() []selection {
	if p.token == scanner.Ident {
		p.next()
	}
	if p.sign('(') {
		for p.sign('$') {
			p.declaration()
		}
		p.expect(')')
	}
	p.directives()
	return p.selections()
}

// declaration is a variable with its type and, perhaps, the value it has when
// none is given.
func (p *questionReader) declaration() {
	name := p.name()
	p.expect(':')
	for p.token == scanner.Ident || p.token == '[' || p.token == ']' || p.token == '!' {
		p.next()
	}
	if p.sign('=') {
		value := p.value()
		if _, given := p.variables[name]; !given {
			p.variables[name] = value
		}
	}
}

// selections are fields in braces.
func (p *questionReader) selections() []selection {
	fields := []selection{}
	p.expect('{')
	for p.failed == nil && !p.sign('}') {
		if p.token == '.' {
			fields = append(fields, p.fragment()...)
			continue
		}
		f := selection{name: p.name()}
		f.as = f.name
		if p.sign(':') {
			f.name = p.name()
		}
		f.args = p.arguments()
		wanted := p.directives()
		if p.token == '{' {
			f.fields = p.selections()
		}
		if wanted {
			fields = append(fields, f)
		}
	}
	return fields
}

// fragment is ...Name, ... on Type {fields} or ... {fields}.
func (p *questionReader) fragment() []selection {
	for range 3 {
		p.expect('.')
	}
	on := ""
	if p.word("on") {
		on = p.name()
	} else if p.token == scanner.Ident {
		f := selection{as: "...", name: p.name()}
		if p.directives() {
			return []selection{f}
		}
		return nil
	}
	wanted := p.directives()
	if fields := p.selections(); wanted {
		return narrowed(fields, on)
	}
	return nil
}

// spread puts the fields of named fragments where those are used.
func (p *questionReader) spread(fields []selection, depth int) []selection {
	const deepest = 50 // a fragment that uses itself
	var out []selection
	for _, f := range fields {
		if depth > deepest {
			p.fail("fragments too deep")
			return nil
		}
		if f.as == "..." {
			out = append(out, p.spread(narrowed(p.fragments[f.name], f.on), depth+1)...)
			continue
		}
		f.fields = p.spread(f.fields, depth+1)
		out = append(out, f)
	}
	return out
}

// narrowed are fields that only objects of a type have.
func narrowed(fields []selection, on string) []selection {
	out := append([]selection{}, fields...)
	for i := range out {
		if out[i].on == "" {
			out[i].on = on
		}
	}
	return out
}

// directives says whether @include and @skip leave a field in.
func (p *questionReader) directives() bool {
	wanted := true
	for p.sign('@') {
		name := p.name()
		yes := p.arguments()["if"] == true
		wanted = wanted && (name != "include" || yes) && (name != "skip" || !yes)
	}
	return wanted
}

func (p *questionReader) arguments() map[string]any {
	args := map[string]any{}
	if !p.sign('(') {
		return args
	}
	for p.failed == nil && !p.sign(')') {
		name := p.name()
		p.expect(':')
		args[name] = p.value()
	}
	return args
}

// value is a literal, or what a variable stands for.
func (p *questionReader) value() any {
	text := p.scan.TokenText()
	switch token := p.token; {
	case p.sign('$'):
		return p.variables[p.name()]
	case p.sign('-'):
		n, _ := p.value().(float64)
		return -n
	case p.sign('['):
		list := []any{}
		for p.failed == nil && !p.sign(']') {
			list = append(list, p.value())
		}
		return list
	case p.sign('{'):
		object := map[string]any{}
		for p.failed == nil && !p.sign('}') {
			name := p.name()
			p.expect(':')
			object[name] = p.value()
		}
		return object
	case token == scanner.Int || token == scanner.Float:
		p.next()
		n, _ := strconv.ParseFloat(text, 64)
		return n
	case token == scanner.String:
		p.next()
		var s string
		_ = json.Unmarshal([]byte(text), &s) // GraphQL's escapes are JSON's
		return s
	}
	switch name := p.name(); name {
	case "true", "false":
		return name == "true"
	case "null":
		return nil
	default:
		return name // of an enumeration
	}
}

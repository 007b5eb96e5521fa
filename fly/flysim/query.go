package flysim

import (
	"fmt"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// A selection is a field that a GraphQL operation requests.
type selection struct {
	alias  string // its name in the response
	name   string
	args   map[string]any // with the values of variables
	fields []selection    // empty for a scalar
	types  []string       // the type conditions, all of which the object must meet
}

// A resolver resolves a field that has arguments.
type resolver func(args map[string]any) any

// resolve returns the requested part of v, which is a scalar, an object, a list
// or a resolver. A field that an object does not have is null.
func (f selection) resolve(v any) any {
	if r, ok := v.(resolver); ok {
		v = r(f.args)
	}
	switch v := v.(type) {
	case map[string]any:
		if len(f.fields) == 0 || v == nil {
			return v // a JSON scalar, or null
		}
		return resolveFields(f.fields, v)
	case []any:
		out := make([]any, len(v))
		for i, one := range v {
			out[i] = f.resolve(one)
		}
		return out
	}
	return v
}

func resolveFields(fields []selection, from map[string]any) map[string]any {
	kind, typed := from["__typename"]
	out := map[string]any{}
	for _, f := range mergeSelections(slices.DeleteFunc(slices.Clone(fields), func(f selection) bool {
		return typed && slices.ContainsFunc(f.types, func(on string) bool { return on != kind })
	})) {
		out[f.alias] = f.resolve(from[f.name])
	}
	return out
}

// mergeSelections merges fields with the same response name, which fragments
// may request several times with different subfields.
func mergeSelections(fields []selection) []selection {
	var out []selection
	for _, f := range fields {
		i := slices.IndexFunc(out, func(o selection) bool { return o.alias == f.alias })
		if i < 0 {
			out = append(out, f)
			continue
		}
		out[i].fields = slices.Concat(out[i].fields, f.fields)
	}
	return out
}

// An operation is one operation of a GraphQL document, with its fragments and
// variables. It is not validated against a schema.
type operation struct {
	fragments ast.FragmentDefinitionList
	variables map[string]any
}

// parseOperation returns the fields of the named operation and whether it is a
// mutation. "" names the only one.
func parseOperation(text, name string, variables map[string]any) (fields []selection, mutation bool, err error) {
	doc, err := parser.ParseQuery(&ast.Source{Input: text})
	if err != nil {
		return nil, false, err
	}
	op := doc.Operations.ForName(name)
	if op == nil {
		return nil, false, fmt.Errorf("no operation %q", name)
	}
	q := operation{fragments: doc.Fragments, variables: map[string]any{}}
	for _, v := range op.VariableDefinitions {
		value, given := variables[v.Variable]
		if !given {
			if value, err = v.DefaultValue.Value(nil); err != nil {
				return nil, false, err
			}
		}
		q.variables[v.Variable] = value
	}
	fields, err = q.expandSet(op.SelectionSet, nil, 0)
	return mergeSelections(fields), op.Operation == ast.Mutation, err
}

// expandSet returns the fields of set, with fragments replaced by their fields.
func (q operation) expandSet(set ast.SelectionSet, on []string, depth int) (fields []selection, err error) {
	const deepest = 50 // a fragment may refer to itself
	if depth > deepest {
		return nil, fmt.Errorf("fragments too deep")
	}
	for _, part := range set {
		more, err := q.expandPart(part, on, depth+1)
		if err != nil {
			return nil, err
		}
		fields = append(fields, more...)
	}
	return fields, nil
}

func (q operation) expandPart(part ast.Selection, on []string, depth int) ([]selection, error) {
	switch part := part.(type) {
	case *ast.Field:
		f, wanted, err := q.parseField(part, depth)
		if err != nil || !wanted {
			return nil, err
		}
		f.types = on
		return []selection{f}, nil
	case *ast.InlineFragment:
		if wanted, err := q.isIncluded(part.Directives); err != nil || !wanted {
			return nil, err
		}
		return q.expandSet(part.SelectionSet, withTypeCondition(on, part.TypeCondition), depth)
	case *ast.FragmentSpread:
		fragment := q.fragments.ForName(part.Name)
		if fragment == nil {
			return nil, fmt.Errorf("no fragment %q", part.Name)
		}
		if wanted, err := q.isIncluded(part.Directives); err != nil || !wanted {
			return nil, err
		}
		return q.expandSet(fragment.SelectionSet, withTypeCondition(on, fragment.TypeCondition), depth)
	}
	return nil, fmt.Errorf("unexpected %T", part)
}

// parseField also returns whether the directives include f.
func (q operation) parseField(f *ast.Field, depth int) (s selection, wanted bool, err error) {
	if wanted, err = q.isIncluded(f.Directives); err != nil || !wanted {
		return s, false, err
	}
	s = selection{alias: f.Alias, name: f.Name} // without an alias the parser returns the name
	if s.args, err = q.argValues(f.Arguments); err != nil {
		return s, false, err
	}
	s.fields, err = q.expandSet(f.SelectionSet, nil, depth)
	return s, true, err
}

// withTypeCondition appends a type condition unless it is empty.
func withTypeCondition(on []string, kind string) []string {
	if kind == "" {
		return on
	}
	return append(slices.Clone(on), kind)
}

// isIncluded evaluates @include and @skip.
func (q operation) isIncluded(directives ast.DirectiveList) (bool, error) {
	wanted := true
	for _, d := range directives {
		args, err := q.argValues(d.Arguments)
		if err != nil {
			return false, err
		}
		yes := args["if"] == true
		wanted = wanted && (d.Name != "include" || yes) && (d.Name != "skip" || !yes)
	}
	return wanted, nil
}

// argValues returns the arguments with the values of variables. Whole numbers
// are int64 if they are literals, float64 if they come from variables.
func (q operation) argValues(args ast.ArgumentList) (map[string]any, error) {
	out := map[string]any{}
	for _, a := range args {
		v, err := a.Value.Value(q.variables)
		if err != nil {
			return nil, err
		}
		out[a.Name] = v
	}
	return out, nil
}

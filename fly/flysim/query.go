package flysim

import (
	"fmt"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// A selection is a field that a GraphQL question asks for.
type selection struct {
	alias  string // the name it has in the answer
	name   string
	args   map[string]any // variables filled in
	fields []selection    // none of a scalar
	types  []string       // the types that the object must have, all of them
}

// A resolver answers a field that has arguments.
type resolver func(args map[string]any) any

// pick gives what is asked of v, which is a scalar, an object, a list or a
// resolver. What an object does not have is null.
func (f selection) resolve(v any) any {
	if r, ok := v.(resolver); ok {
		v = r(f.args)
	}
	switch v := v.(type) {
	case map[string]any:
		if len(f.fields) == 0 || v == nil {
			return v // a JSON scalar, or nothing
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

// merged puts together what is asked twice under one name, each time perhaps
// for other fields: fragments do.
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

// A question is one operation of a GraphQL document, and what it may refer to.
// No types are looked at: what flysim does not know of is for it to say.
type operation struct {
	fragments ast.FragmentDefinitionList
	variables map[string]any
}

// readQuestion gives the fields that the operation of that name asks for, ""
// being the only one, and whether it is a mutation.
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

// selections are the fields of set, with those of its fragments in their place.
func (q operation) expandSet(set ast.SelectionSet, on []string, depth int) (fields []selection, err error) {
	const deepest = 50 // a fragment may use itself
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

// field also says whether its directives leave f in.
func (q operation) parseField(f *ast.Field, depth int) (s selection, wanted bool, err error) {
	if wanted, err = q.isIncluded(f.Directives); err != nil || !wanted {
		return s, false, err
	}
	s = selection{alias: f.Alias, name: f.Name} // without an alias the parser gives the name
	if s.args, err = q.argValues(f.Arguments); err != nil {
		return s, false, err
	}
	s.fields, err = q.expandSet(f.SelectionSet, nil, depth)
	return s, true, err
}

// narrowed adds a type, if one is named, to those that an object must have.
func withTypeCondition(on []string, kind string) []string {
	if kind == "" {
		return on
	}
	return append(slices.Clone(on), kind)
}

// wanted says whether @include and @skip leave a field or a fragment in.
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

// values fills variables in. Whole numbers are int64 where they were written in
// the question, float64 where they came as variables.
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

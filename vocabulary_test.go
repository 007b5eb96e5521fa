package release_root_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// decoders are the functions of the vocabulary that decode JSON: what people and other
// workflows send, and documents as a whole for the hash of a plan. None of them looks
// into a machine config.
var decoders = []string{"decodeStrictly", "decodeKnownFields", "decodeJSON"}

// TestVocabulary_OpaqueConfigs checks that package release contains no key of Fly's
// machine configs, decodes no config and has no process-wide state such as a cache.
func TestVocabulary_OpaqueConfigs(t *testing.T) {
	paths, err := filepath.Glob("release/*.go")
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, wrong := range findImpurities(t, path, nil) {
			t.Error(wrong)
		}
	}
}

// A rule that nothing can break is none.
func TestVocabulary_RulesBite(t *testing.T) {
	for name, source := range map[string]string{
		"a variable of Fly's":                 `const key = "FLY_STANDBY_FOR"`,
		"a config that is decoded":            `func f(doc []byte) { var c struct{ Image string }; _ = json.Unmarshal(doc, &c) }`,
		"a config that is decoded by a field": `func f(c Config) { json.NewDecoder(bytes.NewReader(c.Doc)) }`,
		"a cache":                             `var cache = map[string]string{}`,
		"a lock":                              `var mu sync.Mutex`,
		"a list that can be changed":          `var all = []string{"a"}`,
		"a step without a constructor":        `var err = errors.New("x"); func f() Step { return Step{Verb: Start} }`,
	} {
		t.Run(name, func(t *testing.T) {
			if len(findImpurities(t, "bad.go", "package release\n"+source)) == 0 {
				t.Errorf("this is allowed:\n%s", source)
			}
		})
	}
}

// findImpurities returns what a file of package release may not contain. source is its
// text, or nil to read it.
func findImpurities(t *testing.T, path string, source any) (wrong []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	add := func(n ast.Node, format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("%s: %s", files.Position(n.Pos()), fmt.Sprintf(format, args...)))
	}
	for _, decl := range file.Decls {
		function, isFunction := decl.(*ast.FuncDecl)
		if variables, ok := decl.(*ast.GenDecl); ok && variables.Tok == token.VAR {
			for _, spec := range variables.Specs {
				if !isConstant(spec.(*ast.ValueSpec)) {
					add(spec, "a package variable that can change: pass it as an argument")
				}
			}
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if n.Kind == token.STRING && strings.Contains(n.Value, "FLY_") {
					add(n, "a key of Fly: fly/machineconfig reads machine configs")
				}
			case *ast.CallExpr:
				if isDecoder(n) && !(isFunction && slices.Contains(decoders, function.Name.Name)) {
					add(n, "decodes JSON: fly/machineconfig reads machine configs")
				}
			case *ast.CompositeLit:
				if name, ok := n.Type.(*ast.Ident); ok && name.Name == "Step" && filepath.Base(path) != "step.go" {
					add(n, "a Step without a constructor of its verb: see step.go")
				}
			}
			return true
		})
	}
	return wrong
}

// isConstant reports whether the variables of spec are errors or regular expressions,
// which cannot change.
func isConstant(spec *ast.ValueSpec) bool {
	return len(spec.Values) > 0 && !slices.ContainsFunc(spec.Values, func(v ast.Expr) bool {
		call, ok := v.(*ast.CallExpr)
		return !ok || !isCallOf(call, "errors", "New") && !isCallOf(call, "regexp", "MustCompile")
	})
}

func isDecoder(call *ast.CallExpr) bool {
	return isCallOf(call, "json", "Unmarshal") || isCallOf(call, "json", "NewDecoder")
}

func isCallOf(call *ast.CallExpr, pkg, name string) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || f.Sel.Name != name {
		return false
	}
	x, ok := f.X.(*ast.Ident)
	return ok && x.Name == pkg
}

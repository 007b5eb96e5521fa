package workflows_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// readEvents queries the events of the release after a number.
func (s *scenario) readEvents(after int) (events []release.Event) {
	s.t.Helper()
	for more := true; more; {
		v, err := s.env.QueryWorkflow(release.EventsQuery, release.EventQuery{After: after + len(events)})
		var page release.EventPage
		if err == nil {
			err = v.Get(&page)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		events, more = append(events, page.Events...), page.More
	}
	return events
}

// The query events returns each fact of a release once, in order, also from the middle,
// and the report is the fold of the events.
func TestEvents_RolledBack(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		s := newScenario(t, repo{})
		s.installVersion("v1")
		s.req.Revision = revision("v2")
		s.sim.Inject(flysim.Fault{Route: update, App: "shop-production-api", Times: 1, Effect: flysim.LeaseLost})
		s.onApproval(func() { s.approve() })
		rep := s.run()
		if rep.Outcome != release.RolledBack {
			t.Fatalf("the outcome is %q: %+v", rep.Outcome, rep.Cause)
		}
		events := s.readEvents(0)
		var folded release.Status
		for i, e := range events {
			if e.Number != i+1 || !folded.Apply(e) {
				t.Errorf("event %d has number %d and kind %q", i+1, e.Number, e.Kind)
			}
		}
		if got, want := mustJSON(t, folded), mustJSON(t, rep.Status.Outline()); got != want {
			t.Errorf("the fold of the events is\n%s\nand the report\n%s", got, want)
		}
		for _, kind := range []release.EventKind{release.EventBegun, release.EventTestFinished, release.EventGateOpened, release.EventReviewReceived, release.EventRolloutStarted, release.EventCauseFound} {
			if !slices.ContainsFunc(events, func(e release.Event) bool { return e.Kind == kind }) {
				t.Errorf("no event %q", kind)
			}
		}
		if rest := s.readEvents(len(events) - 3); len(rest) != 3 || rest[2].Kind != release.EventEnded || rest[2].Outcome != release.RolledBack {
			t.Errorf("the last 3 events are %s", mustJSON(t, rest))
		}
	})
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	doc, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// No workflow code changes a status except by recording an event: it assigns to no part
// of what status() returns, and calls EventLog.Record in one place.
func TestStatus_OnlyRecordChangesIt(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var records int
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		records += countRecords(file)
		for _, pos := range findStatusChanges(file) {
			t.Errorf("%s: it changes a status without an event: use record", set.Position(pos))
		}
	}
	if records != 1 {
		t.Errorf("EventLog.Record is called in %d places, want 1", records)
	}
}

// The check of TestStatus_OnlyRecordChangesIt finds changes in any form.
func TestStatus_ChangesAreFound(t *testing.T) {
	for code, want := range map[string]int{
		`r.status().Environments[0].Outcome = o`:                 1,
		`s := r.status(); s.Environments[0].Outcome = o`:         1,
		`e := &r.status().Environments[0]; e.Outcome = o`:        1,
		`for i := range r.status().Reviews { s := r; s.x = 1 }`:  0,
		`s := r.status(); s.Gate.Approved = append(a, b)`:        1,
		`s := r.status(); if s.Phase == p { r.phase = s.Phase }`: 0,
		`r.status().Environments[0].Count++`:                     1,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() {"+code+"}", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(findStatusChanges(file)); got != want {
			t.Errorf("%s: %d changes found, want %d", code, got, want)
		}
	}
}

// countRecords returns the number of calls of a method Record.
func countRecords(file *ast.File) (n int) {
	ast.Inspect(file, func(node ast.Node) bool {
		if call, ok := node.(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Record" {
				n++
			}
		}
		return true
	})
	return n
}

// findStatusChanges returns where a file assigns to a part of what a call of status()
// returns, also by a variable.
func findStatusChanges(file *ast.File) (found []token.Pos) {
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		aliases := map[string]bool{}
		check := func(e ast.Expr) {
			if _, isName := e.(*ast.Ident); !isName && isOfStatus(e, aliases) {
				found = append(found, e.Pos())
			}
		}
		ast.Inspect(f, func(node ast.Node) bool {
			switch n := node.(type) {
			case *ast.IncDecStmt:
				check(n.X)
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					check(left)
					if name, ok := left.(*ast.Ident); ok && len(n.Lhs) == len(n.Rhs) {
						aliases[name.Name] = isOfStatus(n.Rhs[i], aliases)
					}
				}
			}
			return true
		})
	}
	return found
}

// isOfStatus reports whether e is a part of what status() returns, or of an alias of it.
func isOfStatus(e ast.Expr, aliases map[string]bool) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return aliases[e.Name]
	case *ast.CallExpr:
		f, ok := e.Fun.(*ast.SelectorExpr)
		return ok && f.Sel.Name == "status"
	case *ast.SelectorExpr:
		return isOfStatus(e.X, aliases)
	case *ast.IndexExpr:
		return isOfStatus(e.X, aliases)
	case *ast.StarExpr:
		return isOfStatus(e.X, aliases)
	case *ast.ParenExpr:
		return isOfStatus(e.X, aliases)
	case *ast.UnaryExpr:
		return isOfStatus(e.X, aliases)
	case *ast.SliceExpr:
		return isOfStatus(e.X, aliases)
	}
	return false
}

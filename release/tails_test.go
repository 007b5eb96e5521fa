package release_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

// The outputs of many tests and builds together must not make a status that Temporal
// does not store; what failed is shown before what passed.
func TestStatus_BoundTails(t *testing.T) {
	size := func(s release.Status) (n int) {
		for _, x := range s.Tests {
			n += len(x.Tail)
		}
		for _, x := range s.Builds {
			n += len(x.Tail)
		}
		for _, x := range s.Scans {
			n += len(x.Tail)
		}
		return n
	}
	long := strings.Repeat("é", 8<<10)
	var few release.Status
	few.Tests = []release.TestResult{{Name: "unit", Passed: true, Tail: long}, {Name: "e2e", Tail: long}}
	few.BoundTails()
	if size(few) != 2*len(long) {
		t.Errorf("two outputs are shortened to %d bytes", size(few))
	}
	var many release.Status
	for i := range 200 {
		many.Tests = append(many.Tests, release.TestResult{Name: fmt.Sprint("t", i), Passed: i != 150, Tail: long + fmt.Sprint(" end of ", i)})
		many.Builds = append(many.Builds, release.BuildResult{App: fmt.Sprint("b", i), Image: "x", Tail: long})
		many.Scans = append(many.Scans, release.ScanResult{Name: fmt.Sprint("b", i), Passed: true, Tail: long})
	}
	many.BoundTails()
	if size(many) > 256<<10 {
		t.Errorf("600 outputs have %d bytes together", size(many))
	}
	if tail := many.Tests[150].Tail; tail != long+" end of 150" {
		t.Errorf("of the test that failed %d bytes are left", len(tail))
	}
	if tail := many.Tests[0].Tail; !strings.Contains(tail, "left out here") {
		t.Errorf("of a test that passed this is left: %.100q", tail)
	}
	var failed release.Status
	for i := range 200 {
		failed.Scans = append(failed.Scans, release.ScanResult{Name: fmt.Sprint("b", i), Tail: long + fmt.Sprint("end of ", i)})
	}
	failed.BoundTails()
	if size(failed) > 256<<10 {
		t.Errorf("200 outputs of what failed have %d bytes together", size(failed))
	}
	for i, x := range failed.Scans {
		if !strings.HasSuffix(x.Tail, fmt.Sprint("end of ", i)) || strings.ContainsRune(x.Tail, '�') {
			t.Errorf("of scan %d this is left: %.50q … %q", i, x.Tail, x.Tail[max(0, len(x.Tail)-20):])
			break
		}
	}
}

package release_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

// The outputs of many tests and builds together must fit into one value of Temporal. The
// outputs of failed jobs have precedence.
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
		t.Errorf("two outputs were shortened to %d bytes", size(few))
	}
	var many release.Status
	for i := range 200 {
		many.Tests = append(many.Tests, release.TestResult{Name: fmt.Sprint("t", i), Passed: i != 150, Tail: long + fmt.Sprint(" end of ", i)})
		many.Builds = append(many.Builds, release.BuildResult{App: fmt.Sprint("b", i), Image: "x", Tail: long})
		many.Scans = append(many.Scans, release.ScanResult{Name: fmt.Sprint("b", i), Passed: true, Tail: long})
	}
	many.BoundTails()
	if size(many) > 256<<10 {
		t.Errorf("600 outputs have %d bytes in total", size(many))
	}
	if tail := many.Tests[150].Tail; tail != long+" end of 150" {
		t.Errorf("the output of the failed test has %d bytes left", len(tail))
	}
	if tail := many.Tests[0].Tail; !strings.Contains(tail, "left out here") {
		t.Errorf("the output of a passed test is: %.100q", tail)
	}
	var failed release.Status
	for i := range 200 {
		failed.Scans = append(failed.Scans, release.ScanResult{Name: fmt.Sprint("b", i), Tail: long + fmt.Sprint("end of ", i)})
	}
	failed.BoundTails()
	if size(failed) > 256<<10 {
		t.Errorf("200 outputs of failed scans have %d bytes in total", size(failed))
	}
	for i, x := range failed.Scans {
		if !strings.HasSuffix(x.Tail, fmt.Sprint("end of ", i)) || strings.ContainsRune(x.Tail, '�') {
			t.Errorf("the output of scan %d is: %.50q … %q", i, x.Tail, x.Tail[max(0, len(x.Tail)-20):])
			break
		}
	}
}

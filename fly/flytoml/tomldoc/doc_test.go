package tomldoc

import (
	"strings"
	"testing"
)

// Every way to write a key must lead to its line.
func TestDoc_Line(t *testing.T) {
	d, err := Parse("x.toml", []byte(`a = 1
b.c = 2
"d.e" = 3
[t]
x = { y = 1, z = { w = 2 } }
[[s]]
n = 1
[[s]]
n = 2
[s.u]
v = 1
[[s.p]]
q = 1
[[s.p]]
q = 2
list = [
  1,
  { k = 1 },
]
`))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{
		"a": 1, "b": 2, "b.c": 2, `"d.e"`: 3, "t": 4, "t.x.y": 5, "t.x.z.w": 5,
		"s": 6, "s[0].n": 7, "s[1]": 8, "s[1].n": 9, "s[1].u.v": 11, "s[1].p[0].q": 13, "s[1].p[1].q": 15,
		"s[1].p[1].list[1].k": 18,
		"t.x.missing":         5, "s[1].missing": 8, "nowhere": 0,
	} {
		if got := d.Line(key); got != want {
			t.Errorf("%s is on line %d, want %d", key, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"approvals", "timeout", "run", "needs", "go"}
	for word, want := range map[string]string{
		"aprovals": "approvals", "Timeout": "timeout", "time_out": "timeout", "rnu": "run", "need": "needs",
		"colour": "", "x": "", "": "", "og": "go",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("nearest to %q is %q, want %q", word, got, want)
		}
	}
}

func TestParse_SizeAndNestingLimits(t *testing.T) {
	for _, open := range []string{"[", "{a="} {
		if _, err := Parse("x.toml", []byte("a = "+strings.Repeat(open, maxSize/len(open)-10))); err == nil {
			t.Error("unclosed brackets are accepted")
		}
	}
	if _, err := Parse("x.toml", make([]byte, maxSize+1)); err == nil {
		t.Error("a huge file is accepted")
	}
}

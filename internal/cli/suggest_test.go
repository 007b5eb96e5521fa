package cli

import "testing"

func TestSuggest_NearNamesOnly(t *testing.T) {
	root := newRoot(&World{}, LocalCommands{})
	for typed, want := range map[string]string{
		"strat": "start", "satus": "status", "aprove": "approve", "STATUS": "status", "lgs": "logs",
		"st": "", "ls": "", "up": "", "deploy": "", "xyzzy": "", "a": "",
	} {
		if want != "" {
			want = "; did you mean " + want + "?"
		}
		if got := suggestCommand(root, typed); got != want {
			t.Errorf("%s: %q, want %q", typed, got, want)
		}
	}
}

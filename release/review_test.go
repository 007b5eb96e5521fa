package release_test

import (
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

// Any other input than a complete review is refused, so that it neither approves nor
// rejects.
func TestParseReview(t *testing.T) {
	for doc, want := range map[string]string{
		`{"by":"ben","reason":"","plan":"0123456789ab"}`:     "",
		`{"by":" ben ","plan":"0123456789ab"}`:               "",
		`{"by":"","reason":"","plan":"0123456789ab"}`:        "by is empty", // as in the details of a status
		`{"by":" ","plan":"0123456789ab"}`:                   "by is empty",
		`{"plan":"0123456789ab"}`:                            "by is empty",
		`{"by":null,"plan":"0123456789ab"}`:                  "by is empty",
		`{"by":"ben","reason":"","plan":""}`:                 "plan is empty",
		`{"by":"ben"}`:                                       "plan is empty",
		`{"by":"ben","plan":"0123456789ab","approve":true}`:  `unknown field "approve"`,
		`{"approve":false,"by":"ben","plan":"0123456789ab"}`: `unknown field "approve"`,
		`{"By":"ben","plan":"0123456789ab"}`:                 `unknown field "By"`,
		`{"by":"ben","by":"eve","plan":"0123456789ab"}`:      "twice",
		`{"by":7,"plan":"0123456789ab"}`:                     "wrong type",
		`{"by":"ben","plan":"0123456789ab"}{"by":"ben"}`:     "something follows",
		`{"by":"ben","plan":"0123456789ab"`:                  "not JSON",
		`null`:                                               "no JSON object", `"yes"`: "no JSON object", `[]`: "no JSON object", ``: "no JSON object", `{}`: "by is empty",
	} {
		r, err := release.ParseReview([]byte(doc))
		switch {
		case want == "" && (err != nil || r.By != "ben" || r.Plan != "0123456789ab"):
			t.Errorf("%s is read as %+v, %v", doc, r, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
}

func TestParseResolution(t *testing.T) {
	for doc, want := range map[string]string{
		`{"choice":"retry","by":"ben","reason":"","hold":2}`: "",
		`{"choice":"retry","by":"ben"}`:                      "",
		`{"choice":"","by":"ben"}`:                           "choice is empty",
		`{"by":"ben"}`:                                       "choice is empty",
		`{"choice":"retry","by":""}`:                         "by is empty",
		`{"choice":"retry","by":"ben","plan":"x"}`:           `unknown field "plan"`,
		`{"choice":"retry","by":"ben","hold":"2"}`:           "wrong type",
		`"retry"`: "no JSON object",
	} {
		a, err := release.ParseResolution([]byte(doc))
		switch {
		case want == "" && (err != nil || a.By != "ben" || a.Choice != release.ChoiceRetry):
			t.Errorf("%s is read as %+v, %v", doc, a, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
}

// The other signals refuse misspelt fields, too.
func TestParse_Signals(t *testing.T) {
	readers := map[string]func([]byte) error{
		"extend": func(doc []byte) error { _, err := release.ParseExtension(doc); return err },
		"unpin":  func(doc []byte) error { _, err := release.ParseUnpinning(doc); return err },
		"abort":  func(doc []byte) error { _, err := release.ParseAbort(doc); return err },
		"wait":   func(doc []byte) error { _, err := release.ParseTickets(doc); return err },
		"next":   func(doc []byte) error { _, err := release.ParseTurn(doc); return err },
	}
	const ticket = `{"environment":"staging","release":"release/shop/1","revision":{"commit":"1"},"since":"2026-03-09T14:00:00Z"}`
	for name, docs := range map[string]map[string]string{
		"extend": {
			`{"to":"production","by":"ben"}`:                 "",
			`{"to":"production"}`:                            "by is empty",
			`{"to":" ","by":"ben"}`:                          "to is empty",
			`{"To":"production","by":"ben"}`:                 `unknown field "To"`,
			`{"to":"production","by":"ben","bake":"0s"}`:     `unknown field "bake"`,
			`{"to":"production","to":"staging","by":"ben"}`:  "twice",
			`{"to":"production","by":"ben"} {"to":"nobody"}`: "something follows",
		},
		"unpin": {
			`{"by":"ben","reason":"mended"}`:                 "",
			`{"by":"ben"}`:                                   "reason is empty",
			`{"reason":"mended"}`:                            "by is empty",
			`{"by":"ben","reason":"mended","plan":"012345"}`: `unknown field "plan"`,
			`"yes"`: "no JSON object",
		},
		"abort": {
			`{"by":"ben","reason":"wrong branch"}`: "",
			`{"by":"ben"}`:                         "",
			`{"reason":"wrong branch"}`:            "by is empty",
			`{"by":"ben","why":"wrong branch"}`:    `unknown field "why"`,
		},
		"wait": {
			`[` + ticket + `]`:                "",
			`[]`:                              "no ticket",
			`[{"environment":"staging"}]`:     "no release",
			`[{"release":"release/shop/1"}]`:  "no environment",
			`[{"environment":"s","who":"x"}]`: `unknown field "who"`,
			`[` + ticket + `,{"environment":"production","release":"x"}]`: "for production, not for staging",
		},
		"next": {
			`{"environment":"staging","behind":[` + ticket + `]}`:    "",
			`{"environment":"staging"}`:                              "",
			`{"behind":[` + ticket + `]}`:                            "environment is empty",
			`{"environment":"production","behind":[` + ticket + `]}`: "for staging, not for production",
			`{"environment":"staging","line":[]}`:                    `unknown field "line"`,
			`{"environment":"staging"}{}`:                            "something follows",
		},
	} {
		for doc, want := range docs {
			err := readers[name]([]byte(doc))
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s %s: %v, want %q", name, doc, err, want)
			}
		}
	}
}

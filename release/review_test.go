package release_test

import (
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

// What is not exactly a review must neither approve nor reject anything.
func TestReadReview(t *testing.T) {
	for doc, want := range map[string]string{
		`{"by":"ben","reason":"","plan":"0123456789ab"}`:     "",
		`{"by":" ben ","plan":"0123456789ab"}`:               "",
		`{"by":"","reason":"","plan":"0123456789ab"}`:        "by is empty", // the details as they are
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
		r, err := release.ReadReview([]byte(doc))
		switch {
		case want == "" && (err != nil || r.By != "ben" || r.Plan != "0123456789ab"):
			t.Errorf("%s is read as %+v, %v", doc, r, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
}

func TestReadAnswer(t *testing.T) {
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
		a, err := release.ReadAnswer([]byte(doc))
		switch {
		case want == "" && (err != nil || a.By != "ben" || a.Choice != release.Retry):
			t.Errorf("%s is read as %+v, %v", doc, a, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
}

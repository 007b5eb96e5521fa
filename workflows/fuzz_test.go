package workflows_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/release"
)

// FuzzReviews sends arbitrary payloads as a signal while a release waits for
// approval. Only an object with a name, enough digits of the plan's hash and no unknown
// field counts. Any other payload approves nothing and does not block the next review.
func FuzzReviews(f *testing.F) {
	for _, doc := range []string{
		`{"by":"ben","plan":"PLAN"}`, `{"by":"ben","plan":"PLAN","approve":false}`, `{"BY":"ben","Plan":"PLAN"}`, `{"by":" ","plan":"PLAN"}`,
		`{"by":"ben","plan":"PLAN","plan":""}`, `{"by":"ben","plan":""}`, `{"by":"ben","plan":"00000000"}`, `{"by":["ben"],"plan":"PLAN"}`,
		`["ben","PLAN"]`, `"PLAN"`, `null`, ``, `{`, `true`, `{"by":"ben","plan":"PLANff"}`, `{"by":"ben\u0000","plan":"PLAN"}`, "\xff\xfe", `{"by":"ben","plan":null}`,
		`{"review":{"by":"ben","plan":"PLAN"}}`, strings.Repeat("[", 5000),
	} {
		f.Add(doc, true)
		f.Add(doc, false)
	}
	f.Fuzz(func(t *testing.T, doc string, approve bool) {
		inVirtualTime(t, func(t *testing.T) { checkSignal(t, doc, approve) })
	})
}

func checkSignal(t *testing.T, doc string, approve bool) {
	s := newScenario(t, repo{})
	counts := false
	signal := release.RejectSignal
	if approve {
		signal = release.ApproveSignal
	}
	s.onApproval(func() {
		plan := s.status().Plan
		sent := strings.ReplaceAll(doc, "PLAN", plan.Hash[:10])
		review, err := release.ParseReview([]byte(sent))
		counts = err == nil && plan.MatchesHash(review.Plan)
		var keys map[string]any
		if err == nil && (json.Unmarshal([]byte(sent), &keys) != nil || keys["by"] == nil || len(keys) > 3) {
			t.Errorf("%q is read as %+v", sent, review)
		}
		s.signal(signal, sent)
		s.env.RegisterDelayedCallback(func() {
			if st := s.status(); (st.Gate == nil) != counts {
				t.Errorf("%s %q: waits on: %t; it should count: %t", signal, sent, st.Gate != nil, counts)
			}
			s.review(release.Review{By: "zoe", Reason: "no", Plan: plan.Hash})
		}, time.Second)
	})
	rep := s.run()
	promoted, by := rep.Outcome == release.Promoted, "zoe"
	if counts && !approve {
		by = ""
	}
	if want := counts && approve; promoted != want || !promoted && !strings.Contains(rep.Cause.Message, "rejected by "+by) {
		t.Errorf("%s %q: %s, %+v", signal, doc, rep.Outcome, rep.Cause)
	}
}

package view_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/internal/view"
	"github.com/microbima/release/release"
)

func TestDifference_WholeValues(t *testing.T) {
	long := strings.Repeat("0123456789", 12)
	for name, test := range map[string]struct{ before, after, want string }{
		"after the 80th rune":         {`{"env":{"A":"` + long + `x"}}`, `{"env":{"A":"` + long + `y"}}`, `env.A: …"01234567890123456789x" → …"01234567890123456789y" (first difference at character 121; 121 characters before, 121 after)`},
		"in the middle":               {`{"env":{"A":"` + long + `x` + long + `"}}`, `{"env":{"A":"` + long + `y` + long + `"}}`, `env.A: …"01234567890123456789x012345678901234567890123456789012345678"… → …"01234567890123456789y012345678901234567890123456789012345678"… (first difference at character 121; 241 characters before, 241 after)`},
		"white space only":            {`{"env":{"A":"a b"}}`, `{"env":{"A":"a  b"}}`, `env.A: a b → "a  b"`},
		"a tab":                       {`{"env":{"A":"a b"}}`, `{"env":{"A":"a\tb"}}`, `env.A: a b → "a\tb"`},
		"a line feed at the end":      {`{"env":{"A":"a"}}`, `{"env":{"A":"a\n"}}`, `env.A: a → "a\n"`},
		"a no-break space":            {`{"env":{"A":"a b"}}`, `{"env":{"A":"a\u00a0b"}}`, `env.A: a b → "a\u00a0b"`},
		"a zero-width space":          {`{"env":{"A":"ab"}}`, `{"env":{"A":"a\u200bb"}}`, `env.A: ab → "a\u200bb"`},
		"an escape, and its text":     {`{"env":{"A":"\\x1b"}}`, `{"env":{"A":"\u001b"}}`, `env.A: "\\x1b" → "\x1b"`},
		"a number and its text":       {`{"a":1}`, `{"a":"1"}`, `a: 1 → "1"`},
		"true and its text":           {`{"a":true}`, `{"a":"true"}`, `a: true → "true"`},
		"empty and absent":            {`{"env":{}}`, `{"env":{"A":""}}`, `env.A: "" is new`},
		"null is absent":              {`{"a":null}`, `{}`, ``},
		"a value that looks like two": {`{"env":{"A":"x"}}`, `{"env":{"A":"debug → info"}}`, `env.A: x → "debug → info"`},
		"a name with a dot":           {`{"env":{"A.B":"x"}}`, `{"env":{"A.B":"y"}}`, `env["A.B"]: x → y`},
		"a file":                      {`{"files":[{"guest_path":"/a","raw_value":"b25l"}]}`, `{"files":[{"guest_path":"/a","raw_value":"dHdv"}]}`, `files[0].raw_value (decoded): one → two`},
		"a file that is not text":     {`{"files":[{"raw_value":"//79"}]}`, `{"files":[{"raw_value":"//78"}]}`, `files[0].raw_value: //79 → //78`},
		"files that decode alike":     {`{"files":[{"raw_value":"YQ=="}]}`, `{"files":[{"raw_value":"YR=="}]}`, `files[0].raw_value: YQ== → YR==`},
		"a long value that is new":    {`{}`, `{"env":{"A":"` + long + `"}}`, `env.A: "` + long[:60] + `"… (120 characters) is new`},
		"stamps and the image":        {`{"image":"a","metadata":{"release_id":"a"}}`, `{"image":"b","metadata":{"release_id":"b"}}`, ``},
	} {
		if got := strings.Join(view.Difference(json.RawMessage(test.before), json.RawMessage(test.after)), "\n"); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}

// randomValue returns a value of a config, ordinary or hostile.
func randomValue(r *rand.Rand) any {
	pieces := []string{"info", "a b", " ", "  ", "\t", "\n", "\x1b[8m", "\u202e", "\u200b", "é", "漢", "1", "true", "\"", "\\", " → ", " is new", strings.Repeat("x", 30), "https://x/?a=b"}
	switch r.IntN(8) {
	case 0:
		return r.IntN(3)
	case 1:
		return r.IntN(2) == 0
	}
	var b strings.Builder
	for range r.IntN(6) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

func randomConfig(r *rand.Rand) map[string]any {
	env := map[string]any{}
	for _, name := range []string{"A", "B", "C.D", "E F", "LONG"} {
		if r.IntN(3) > 0 {
			env[name] = randomValue(r)
		}
	}
	config := map[string]any{"env": env, "guest": map[string]any{"memory_mb": 256 * (1 + r.IntN(3))}, "metadata": map[string]any{"fly_process_group": "app"}}
	if r.IntN(2) == 0 {
		config["services"] = []any{map[string]any{"internal_port": 8080 + r.IntN(2), "autostop": randomValue(r)}}
	}
	return config
}

// leaves adds the values of a document to values, by path, as JSON.
func leaves(v any, path string, values map[string]string) map[string]string {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			leaves(value, path+"/"+key, values)
		}
	case []any:
		for i, value := range v {
			leaves(value, fmt.Sprint(path, "/", i), values)
		}
	default:
		doc, _ := json.Marshal(v)
		values[path] = string(doc)
	}
	return values
}

// TestDifference_EveryChange: each value that differs has a line, equal values have
// none, and different pairs of configs have different lines.
func TestDifference_EveryChange(t *testing.T) {
	pairs := map[string]string{}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		before, after := randomConfig(r), randomConfig(r)
		was, will := leaves(before, "", map[string]string{}), leaves(after, "", map[string]string{})
		changed := 0
		all := maps.Clone(was)
		maps.Copy(all, will)
		pair := []string{}
		for _, path := range slices.Sorted(maps.Keys(all)) {
			a, had := was[path]
			b, has := will[path]
			if a != b || had != has {
				changed++
				pair = append(pair, path, a, b)
			}
		}
		x, _ := json.Marshal(before)
		y, _ := json.Marshal(after)
		lines := view.Difference(x, y)
		if len(lines) != changed {
			t.Fatalf("seed %d: %d lines for %d changes\n%s\n%s\n%s", seed, len(lines), changed, x, y, strings.Join(lines, "\n"))
		}
		short := !slices.ContainsFunc(pair, func(v string) bool { return len(v) > 50 })
		if text := strings.Join(lines, "\n"); short && text != "" {
			if other, known := pairs[text]; known && other != fmt.Sprint(pair) {
				t.Fatalf("seed %d: two differences have the same text:\n%s\n%s\n%v", seed, text, other, pair)
			}
			pairs[text] = fmt.Sprint(pair)
		}
	}
}

// successorPlan is a plan that creates a machine in place of e1.
func successorPlan(before, after string) release.Plan {
	p := plan()
	create := step(release.Create, api, "app-0a1b2c3d-000e1", "", newAPI)
	create.After.Doc, create.Replaces = []byte(after), "e1"
	destroy := step(release.Destroy, api, "e1", oldAPI, "")
	destroy.Before.Doc, destroy.After.Doc = []byte(before), nil
	p.Targets = p.Targets[:1]
	p.Targets[0].Strategy = release.BlueGreen
	p.Waves = []release.Wave{
		{Title: "create green", Lanes: []release.Lane{{MaxConcurrent: 1, Steps: []release.Step{create}}}},
		{Title: "destroy blue", Irreversible: true, Lanes: []release.Lane{{MaxConcurrent: 1, Steps: []release.Step{destroy}}}},
	}
	return p
}

// TestPlan_CreatedMachines: a successor is compared with the machine that it replaces;
// a machine of a first rollout lists its config.
func TestPlan_CreatedMachines(t *testing.T) {
	p := successorPlan(`{"env":{"LEVEL":"info","SAME":"1"}}`, `{"env":{"LEVEL":"debug","SAME":"1"}}`)
	got := view.Plan(p, view.Style{})
	for _, want := range []string{"env.LEVEL: info → debug", "image: sha256:111111111111 → sha256:222222222222"} {
		if !strings.Contains(got, want) {
			t.Errorf("a green machine lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "SAME") {
		t.Errorf("an unchanged value is listed:\n%s", got)
	}
	if got := view.Plan(successorPlan(`{"env":{"A":"1"}}`, `{"env":{"A":"1"}}`), view.Style{}); !strings.Contains(got, "config: only the image differs") {
		t.Errorf("a green machine with an unchanged config:\n%s", got)
	}
	p.Waves[0].Lanes[0].Steps[0].Replaces = ""
	if got := view.Plan(p, view.Style{}); !strings.Contains(got, `env is new: LEVEL=debug, SAME="1"`) {
		t.Errorf("a first machine does not list its config:\n%s", got)
	}
	if got := view.Plan(p, view.Style{Whole: true}); !strings.Contains(got, "env.LEVEL: debug is new") || !strings.Contains(got, `env.SAME: "1" is new`) {
		t.Errorf("a first machine does not list each value by itself:\n%s", got)
	}
}

// TestPlan_FirstMachines: different configs of a first machine have different texts.
func TestPlan_FirstMachines(t *testing.T) {
	configs := map[string]string{}
	for seed := range uint64(2000) {
		config, _ := json.Marshal(randomConfig(rand.New(rand.NewPCG(seed, 2))))
		if slices.ContainsFunc(slices.Collect(maps.Values(leaves(decode(config), "", map[string]string{}))), func(v string) bool { return len(v) > 50 }) {
			continue // only its beginning is shown
		}
		p := successorPlan("{}", string(config))
		p.Waves[0].Lanes[0].Steps[0].Replaces = ""
		for _, width := range []int{0, 30} {
			text := view.Plan(p, view.Style{Width: width})
			if other, known := configs[text]; known && other != string(config) {
				t.Fatalf("seed %d: two configs have the same text:\n%s\n%s\n%s", seed, text, other, config)
			}
			configs[text] = string(config)
		}
	}
}

// TestPlan_WrappedSpaces: in a wrapped line, one space and two have different texts.
func TestPlan_WrappedSpaces(t *testing.T) {
	for n := range 60 {
		var texts []string
		for _, space := range []string{" ", "  ", "   "} {
			config, _ := json.Marshal(map[string]any{"env": map[string]string{"A": strings.Repeat("x", n) + space + "y", "B": "z"}})
			p := successorPlan("{}", string(config))
			p.Waves[0].Lanes[0].Steps[0].Replaces = ""
			texts = append(texts, view.Plan(p, view.Style{Width: 40}))
		}
		if texts[0] == texts[1] || texts[1] == texts[2] {
			t.Errorf("with %d runes before the spaces:\n%s", n, texts[1])
		}
	}
}

func decode(doc []byte) (v any) {
	_ = json.Unmarshal(doc, &v)
	return v
}

// fleet is a release of n equal apps that waits for approval.
func fleet(n int) release.Status {
	s := status()
	p := release.Plan{Environment: "production", Revision: revision().Commit, Hash: s.Plan.Hash, Lineage: s.Plan.Lineage}
	w := release.Wave{Title: "update"}
	s.Environments = []release.EnvironmentStatus{{Name: "staging", Outcome: release.Promoted}, {Name: "production"}}
	for i := range n {
		target := release.Target{App: fmt.Sprintf("service-%02d", i), Environment: "production"}
		from := release.Image(fmt.Sprintf("registry.fly.io/x@sha256:a%011d%052d", i, 0))
		to := release.Image(fmt.Sprintf("registry.fly.io/x@sha256:b%011d%052d", i, 0))
		p.Targets = append(p.Targets, release.TargetPlan{Target: target, FlyApp: "shop-production-" + target.App, Strategy: release.Rolling, Image: to, Changed: true, MachineVersions: map[string]string{"e": "1"},
			Notes: []string{"picks up staged secrets: DATABASE_URL (set until 2026-03-09 13:00 UTC); a rollback can't bring their old values back"}})
		w.Lanes = append(w.Lanes, release.Lane{MaxConcurrent: 1, Steps: []release.Step{step(release.Update, target, fmt.Sprintf("e%d", i), from, to)}})
		there := release.Target{App: target.App, Environment: "staging"}
		s.Environments[0].Targets = append(s.Environments[0].Targets, release.TargetStatus{Target: there, FlyApp: "shop-staging-" + target.App, URL: "https://shop-staging-" + target.App + ".fly.dev", Image: to, Changed: true,
			Machines: []release.MachineStatus{{ID: fmt.Sprintf("s%d", i), Group: "app", Region: "ams", State: "started", Image: to, Verb: release.Update, Progress: release.ProgressDone}}})
		s.Environments[0].Verdicts = append(s.Environments[0].Verdicts, release.Verdict{Target: there, Health: release.Healthy, Machines: 1, Probed: "GET /health: 200", At: at(41)})
	}
	p.Waves = []release.Wave{w}
	s.Plan = &p
	return s
}

// TestReview_TwentyEqualApps: the review is at most 40 lines long and has every app
// with its digest.
func TestReview_TwentyEqualApps(t *testing.T) {
	s := fleet(20)
	for _, width := range []int{0, 80} {
		got := view.Review(s, at(200), view.Style{Width: width})
		if n := strings.Count(got, "\n"); n > 40 {
			t.Errorf("%d lines, want 40 at most:\n%s", n, got)
		}
		for line := range strings.Lines(got) {
			if n := len([]rune(line)); n > 121 {
				t.Errorf("a line of %d characters: %s", n, line)
			}
		}
		for i := range 20 {
			if name := fmt.Sprintf("service-%02d", i); !strings.Contains(got, name+fmt.Sprintf(" b%011d", i)) {
				t.Errorf("%s or its digest is missing:\n%s", name, got)
			}
		}
	}
	golden(t, "review_20", view.Review(s, at(200), view.Style{Width: 80}))
	golden(t, "report_20", view.Report(s, "", at(200), view.Style{Width: 80}))
	if got := view.Report(s, "", at(200), view.Style{}); strings.Count(got, "\n") > 40 {
		t.Errorf("the report has %d lines", strings.Count(got, "\n"))
	}
	if got := view.Report(s, "", at(200), view.Style{Whole: true}); strings.Count(got, "https://") != 20 || !strings.Contains(got, "s19") {
		t.Errorf("the report with all details is incomplete:\n%s", got)
	}
}

// TestPlan_FoldingHidesNothing: an app whose plan differs from the others' in any part
// is shown by itself.
func TestPlan_FoldingHidesNothing(t *testing.T) {
	for name, change := range map[string]func(*release.TargetPlan, *release.Step){
		"a value": func(_ *release.TargetPlan, s *release.Step) {
			s.After.Doc = []byte(strings.Replace(string(s.After.Doc), "debug", "debug ", 1))
		},
		"a note":      func(t *release.TargetPlan, _ *release.Step) { t.Notes = nil },
		"a strategy":  func(t *release.TargetPlan, _ *release.Step) { t.Strategy = release.Immediate },
		"another app": func(t *release.TargetPlan, _ *release.Step) { t.FlyApp = "another-app" },
		"an address":  func(t *release.TargetPlan, _ *release.Step) { t.Addresses = []string{"v6"} },
		"the verb":    func(_ *release.TargetPlan, s *release.Step) { s.Verb = release.Create },
		"machine check": func(_ *release.TargetPlan, s *release.Step) {
			s.MachineChecks = []json.RawMessage{[]byte(`{"init":{"cmd":["x"]}}`)}
		},
	} {
		p := fleet(20).Plan
		change(&p.Targets[7], &p.Waves[0].Lanes[7].Steps[0])
		got := view.Plan(*p, view.Style{})
		if !regexp.MustCompile(`(?m)^  ~ service-07,`).MatchString(got) || !strings.Contains(got, "~ 19 apps, rolling (the same for each)") {
			t.Errorf("%s of one app is folded:\n%s", name, got)
		}
	}
}

// TestLive_ReviewAlwaysVisible: at any usual height the live view fits the screen and
// shows the review that it waits for.
func TestLive_ReviewAlwaysVisible(t *testing.T) {
	s := held()
	s.Revision.Subject = strings.Repeat("漢字", 60)
	for i := range 20 {
		s.Held.Machines = append(s.Held.Machines, fmt.Sprintf("machine e%d of internal-api/production is on neither the plan nor the baseline: started", i))
		s.Notes = append(s.Notes, fmt.Sprintf("note %d", i))
		target := s.Environments[1].Targets[0]
		target.Target.App = fmt.Sprint("app-", i)
		s.Environments[1].Targets = append(s.Environments[1].Targets, target)
	}
	s.Held.Why = "the baseline could not be restored: " + strings.Repeat("machine e2 has no room; ", 8) + "END"
	gated := fleet(20)
	gated.Notes = s.Notes
	for height := 12; height <= 60; height++ {
		for name, status := range map[string]release.Status{"held": s, "gate": gated} {
			got := view.Live(status, at(200), view.Style{Width: 80, Height: height})
			if n := strings.Count(got, "\n"); n > height-1 {
				t.Errorf("%s: %d lines on a screen of %d", name, n, height)
			}
			for line := range strings.Lines(got) {
				wide := 0
				for _, r := range strings.TrimRight(line, "\n") {
					if wide++; r >= 0x3000 {
						wide++
					}
				}
				if wide > 80 {
					t.Errorf("%s: %d columns: %s", name, wide, line)
				}
			}
			want := []string{"release approve 4f2d1c0b9a8e", "release reject 4f2d1c0b9a8e", "waits for 2 approvals of plan 0123456789ab"}
			if name == "held" {
				want = []string{"release resolve 4f2d1c0b9a8e retry", "release resolve 4f2d1c0b9a8e keep", "release resolve 4f2d1c0b9a8e abandon", "held, needs a resolution", "END"}
			}
			for _, w := range want {
				if !strings.Contains(got, w) {
					t.Errorf("%s: %q is not on a screen of %d rows:\n%s", name, w, height, got)
				}
			}
		}
	}
}

// On a screen that became narrower, drawn lines take more rows.
func TestStyleRows_NarrowerScreen(t *testing.T) {
	lines := []string{"", strings.Repeat("x", 80), strings.Repeat("x", 81), "\x1b[1m" + strings.Repeat("漢", 20) + "\x1b[0m"}
	for width, want := range map[int]int{0: 4, 80: 5, 40: 1 + 2 + 3 + 1, 39: 1 + 3 + 3 + 2} {
		if got := (view.Style{Width: width}).Rows(lines); got != want {
			t.Errorf("%d columns: %d rows, want %d", width, got, want)
		}
	}
}

// TestReview_AgeOfVerdicts: a review shows the age of verdicts, and that an unchanged
// environment was not verified.
func TestReview_AgeOfVerdicts(t *testing.T) {
	s := status()
	if got := view.Review(s, at(41).Add(26*time.Hour), view.Style{}); !strings.Contains(got, "In staging: promoted, verified 26h00m ago") {
		t.Errorf("no age:\n%s", got)
	}
	s.Environments[0].Outcome, s.Environments[0].Verdicts = release.Unchanged, nil
	if got := view.Review(s, at(41), view.Style{}); !strings.Contains(got, "In staging: unchanged; this release verified nothing there") {
		t.Errorf("unchanged:\n%s", got)
	}
	if got := view.Details(status()); !strings.Contains(got, "Verified at 2026-03-09 14:00:41 UTC") {
		t.Errorf("no time in the details:\n%s", got)
	}
}

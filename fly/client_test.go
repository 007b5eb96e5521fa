package fly_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

const secretToken = "marker-token-4711"

// newTestClient returns a client of a test server with handler h.
func newTestClient(t *testing.T, h http.HandlerFunc) *fly.Client {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &fly.Client{FlapsURL: srv.URL, APIURL: srv.URL, UIEXURL: srv.URL, Token: secretToken}
}

// TestClient_SendsEachChangeOnce: whatever the status, the client sends a
// change once.
func TestClient_SendsEachChangeOnce(t *testing.T) {
	for _, status := range []int{200, 301, 307, 308, 400, 401, 404, 408, 409, 412, 422, 429, 500, 502, 503, 504} {
		var n atomic.Int32
		c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			fmt.Fprint(w, `{}`)
		})
		_, err := c.Create(t.Context(), "shop", fly.Create{Config: json.RawMessage(`{}`)})
		if n.Load() != 1 {
			t.Errorf("after status %d a create was sent %d times", status, n.Load())
		}
		if (err == nil) != (status == 200) {
			t.Errorf("%d: error %v", status, err)
		}
		unknown := status == 408 || status >= 500
		if got := errors.Is(err, fly.ErrUnknownOutcome); got != unknown {
			t.Errorf("after status %d ErrUnknownOutcome is %v, want %v", status, got, unknown)
		}
		_, err = c.Machine(t.Context(), "shop", "m1")
		if errors.Is(err, fly.ErrUnknownOutcome) {
			t.Errorf("a read has no outcome, but: %v", err)
		}
	}
}

func TestClient_LostConnection(t *testing.T) {
	var n atomic.Int32
	c := newTestClient(t, func(http.ResponseWriter, *http.Request) {
		n.Add(1)
		panic(http.ErrAbortHandler)
	})
	_, err := c.Update(t.Context(), "shop", "m1", fly.Update{Config: json.RawMessage(`{}`)})
	wantError(t, err, fly.ErrUnknownOutcome)
	wantError(t, err, fly.ErrUnavailable)
	if n.Load() != 1 {
		t.Errorf("sent %d times, want once", n.Load())
	}

	nobody := &fly.Client{FlapsURL: "http://127.0.0.1:1", Token: secretToken}
	_, err = nobody.Update(t.Context(), "shop", "m1", fly.Update{Config: json.RawMessage(`{}`)})
	wantError(t, err, fly.ErrUnavailable)
	if errors.Is(err, fly.ErrUnknownOutcome) {
		t.Errorf("nothing was sent, but the outcome is unknown: %v", err)
	}
}

// TestClient_ErrorsDoNotContainToken: also if the server repeats the token in
// its message.
func TestClient_ErrorsDoNotContainToken(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"error":"bad token %s"}`, r.Header.Get("Authorization"))
	})
	calls := map[string]func() error{
		"flaps": func() error { _, err := c.Machines(t.Context(), "shop"); return err },
		"uiex":  func() error { _, err := c.Releases(t.Context(), "shop"); return err },
		"logs":  func() error { _, err := c.Logs(t.Context(), "shop", "m1"); return err },
		"no host": func() error {
			_, err := (&fly.Client{FlapsURL: "http://127.0.0.1:1", Token: secretToken}).Machines(t.Context(), "shop")
			return err
		},
		"newline": func() error {
			_, err := (&fly.Client{Token: secretToken + "\n"}).Machines(t.Context(), "shop")
			return err
		},
	}
	for name, call := range calls {
		err := call()
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secretToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantError(t, calls["flaps"](), fly.ErrUnauthorized)
}

// TestClient_AuthorizationPerAPI: each API gets the tokens that it accepts.
func TestClient_AuthorizationPerAPI(t *testing.T) {
	for _, test := range []struct{ token, flaps, graphQL, uiex string }{
		{"user1", "Bearer user1", "Bearer user1", "Bearer user1"},
		{"FlyV1 fm2_a,fm2_b", "FlyV1 fm2_a,fm2_b", "FlyV1 fm2_a,fm2_b", "Bearer fm2_a,fm2_b"},
		{"fm2_a,user1", "FlyV1 fm2_a", "FlyV1 fm2_a,user1", "Bearer fm2_a,user1"},
	} {
		got := map[string]string{}
		c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
			got[r.URL.Path] = r.Header.Get("Authorization")
			fmt.Fprint(w, `{"data":{}}`)
		})
		c.Token = test.token
		if _, err := c.App(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Releases(t.Context(), "shop"); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{"/v1/apps/shop": test.flaps, "/graphql": test.graphQL, "/api/v1/apps/shop/releases": test.uiex} {
			if got[path] != want {
				t.Errorf("token %q: %s got %q, want %q", test.token, path, got[path], want)
			}
		}
	}
	if got := fly.Tokens("FlyV1 fm2_a,fm2_b,user1"); !slices.Equal(got, []string{"fm2_a", "fm2_b", "user1"}) {
		t.Errorf("tokens %q", got)
	}
	if got := fly.RegistryPassword("FlyV1 fm2_a,user1"); got != "fm2_a" {
		t.Errorf("registry password %q", got)
	}
}

// TestClient_MalformedResponse: a body that can't be decoded is ErrMalformed.
func TestClient_MalformedResponse(t *testing.T) {
	endless := bytes.Repeat([]byte(" "), 17<<20)
	for name, body := range map[string][]byte{
		"empty": nil, "not JSON": []byte("<html>gateway</html>"), "cut off": []byte(`{"id":"m1","conf`), "another type": []byte(`["x"]`), "endless": endless,
	} {
		c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
		want := fly.ErrMalformed
		if name == "endless" {
			want = fly.ErrTooLong
		}
		_, err := c.Machine(t.Context(), "shop", "m1")
		wantError(t, err, want)
		_, err = c.Update(t.Context(), "shop", "m1", fly.Update{Config: json.RawMessage(`{}`)})
		wantError(t, err, fly.ErrUnknownOutcome)
		if err != nil && len(err.Error()) > 4096 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
	})
	if _, err := c.Machine(t.Context(), "shop", "m1"); err == nil || len(err.Error()) > 4096 {
		t.Error("the error is as long as the response")
	}
}

// TestClient_ResponseWithoutRequiredField: a lease without a nonce can't be
// kept, a volume without an ID can't be mounted. Fly may have created it
// nevertheless.
func TestClient_ResponseWithoutRequiredField(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) })
	for name, ask := range map[string]func() error{
		"lease":   func() error { _, err := c.TakeLease(t.Context(), "shop", "m1", "x", time.Minute); return err },
		"volume":  func() error { _, err := c.CreateVolume(t.Context(), "shop", fly.NewVolume{Name: "data"}); return err },
		"address": func() error { _, err := c.AssignAddress(t.Context(), "shop", "v6"); return err },
		"release": func() error {
			_, err := c.CreateRelease(t.Context(), fly.NewRelease{App: "shop"})
			return err
		},
	} {
		err := ask()
		if !errors.Is(err, fly.ErrMalformed) || !errors.Is(err, fly.ErrUnknownOutcome) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := c.ReadLease(t.Context(), "shop", "m1")
	wantError(t, err, fly.ErrMalformed)
	if errors.Is(err, fly.ErrUnknownOutcome) {
		t.Errorf("a read has no outcome, but: %v", err)
	}
}

func TestError_FieldsFromResponse(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("fly-request-id", "01REQ")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"error":"old message","message":"slow down","status":"rate_limited"}`)
	})
	_, err := c.Update(t.Context(), "shop", "m1", fly.Update{Config: json.RawMessage(`{}`)})
	wantError(t, err, fly.ErrRateLimited)
	var e *fly.Error
	if !errors.As(err, &e) || e.RetryAfter != 7*time.Second || e.Code != "rate_limited" || e.RequestID != "01REQ" {
		t.Errorf("got %+v", e)
	}
	if want := "fly: update machine m1: 429 slow down (request 01REQ)"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// TestError_NoCapacity: whatever its status, the error means that nothing was
// changed.
func TestError_NoCapacity(t *testing.T) {
	for _, test := range []struct {
		status               int
		body                 string
		hasCapacity, unknown bool
	}{
		{500, `{"error":"failed to update VM 148e: unknown: could not reserve resource for machine: insufficient memory available to fulfill request"}`, false, false},
		{422, `{"error":"deploys to this host are temporarily disabled, please try again"}`, false, false},
		{400, `{"error":"bad request","message":"Could not reserve resource: no memory"}`, false, false},
		{412, `{"error":"deploys to this host are temporarily disabled","message":"failed_precondition"}`, false, false},
		{404, `{"error":"none","status":"insufficient_capacity"}`, false, false},
		{422, `{"error":"invalid config.guest"}`, true, false},
		{503, "deploys to this host are temporarily disabled", false, false},
		{503, `{"error":"an unknown message","status":"insufficient_capacity"}`, false, false},
		{503, strings.Repeat("x", 4<<10) + "could not reserve resource for machine", false, false},
		{500, `{"error":"could not reserve a table"}`, true, true},
		{503, `{"error":"no healthy upstream"}`, true, true},
	} {
		c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.status)
			fmt.Fprint(w, test.body)
		})
		_, err := c.Update(t.Context(), "shop", "m1", fly.Update{Config: json.RawMessage(`{}`)})
		if got := errors.Is(err, fly.ErrNoCapacity); got == test.hasCapacity {
			t.Errorf("%.80v: is ErrNoCapacity: %t", err, got)
		}
		for _, other := range []error{fly.ErrInvalid, fly.ErrPrecondition, fly.ErrNotFound, fly.ErrUnavailable} {
			if !test.hasCapacity && errors.Is(err, other) {
				t.Errorf("%.80v: is ErrNoCapacity and also %v", err, other)
			}
		}
		if got := errors.Is(err, fly.ErrUnknownOutcome); got != test.unknown {
			t.Errorf("%.80v: is ErrUnknownOutcome: %t", err, got)
		}
	}
}

// A change that was sent may finish after its caller has cancelled, for a few
// seconds: otherwise a later read could find it half done.
func TestClient_ChangeOutlivesCancelledCaller(t *testing.T) {
	for name, tc := range map[string]struct {
		takes time.Duration
		known bool
	}{"answered": {3 * time.Second, true}, "never answered": {time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				begun := time.Now()
				c := &fly.Client{Unlimited: true, HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					cancel()
					select {
					case <-time.After(tc.takes):
						return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"id":"m1","instance_id":"1"}`))}, nil
					case <-r.Context().Done():
						return nil, r.Context().Err()
					}
				})}}
				_, err := c.Update(ctx, "shop", "m1", fly.Update{Config: json.RawMessage(`{}`)})
				if tc.known != (err == nil) {
					t.Errorf("after %s: %v", time.Since(begun), err)
				}
				if !tc.known {
					wantError(t, err, context.Canceled)
					wantError(t, err, fly.ErrUnknownOutcome)
				}
				if took := time.Since(begun); took > 8*time.Second {
					t.Errorf("took %s after its caller had cancelled", took)
				}
				if _, err := c.Machine(ctx, "shop", "m1"); !errors.Is(err, context.Canceled) {
					t.Errorf("a read with a cancelled context: %v", err)
				}
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestClient_InvalidNames(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.EscapedPath(), "/v1/apps/") || slices.Contains(strings.Split(r.URL.EscapedPath(), "/"), "..") {
			t.Errorf("requested %s", r.URL.EscapedPath())
		}
		fmt.Fprint(w, `{}`)
	})
	for _, name := range []string{"", ".", "..", "../../x", "a/b", "a?b#c", "%2e%2e"} {
		_, err := c.Machine(t.Context(), "shop", name)
		if strings.Trim(name, ".") == "" && !errors.Is(err, fly.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	_, err := (&fly.Client{FlapsURL: "not an address"}).Machines(t.Context(), "shop")
	wantError(t, err, fly.ErrInvalid)
}

// TestLimits_Creates: creates are not limited before Fly refuses one. From then
// on none is refused, and they take no longer than the limit requires.
func TestLimits_Creates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := &flysim.Sim{Limits: true}
		defer sim.Close()
		sim.CreateApp("shop", "")
		c := &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}}
		begin, refused := time.Now(), 0
		for made := 0; made < 20; {
			_, err := c.Create(t.Context(), "shop", fly.Create{Config: json.RawMessage(`{"image":"x"}`)})
			switch {
			case err == nil:
				made++
			case errors.Is(err, fly.ErrRateLimited) && !errors.Is(err, fly.ErrUnknownOutcome):
				refused++
			default:
				t.Fatal(err)
			}
		}
		if took := time.Since(begin).Round(time.Millisecond); took != 17*time.Second || refused != 1 {
			t.Errorf("20 creates took %s and %d were refused, want 17s and 1", took, refused)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := c.Create(ctx, "shop", fly.Create{Config: json.RawMessage(`{"image":"x"}`)})
		wantError(t, err, fly.ErrRateLimited)
		if errors.Is(err, fly.ErrUnknownOutcome) {
			t.Errorf("nothing was sent, but the outcome is unknown: %v", err)
		}
	})
}

func TestFromEnv(t *testing.T) {
	env := map[string]string{"FLY_FLAPS_BASE_URL": "f", "FLY_API_BASE_URL": "a", "FLY_UIEX_BASE_URL": "u", "FLY_API_TOKEN": "second"}
	getenv := func(k string) string { return env[k] }
	c := fly.FromEnv(getenv)
	if c.FlapsURL != "f" || c.APIURL != "a" || c.UIEXURL != "u" || c.Token != "second" || fly.Registry(getenv) != "registry.fly.io" {
		t.Errorf("got %q %q %q", c.FlapsURL, c.APIURL, c.UIEXURL)
	}
	env["FLY_ACCESS_TOKEN"], env["FLY_REGISTRY_HOST"] = "first", "localhost:5000"
	if c := fly.FromEnv(getenv); c.Token != "first" || fly.Registry(getenv) != "localhost:5000" {
		t.Error("FLY_ACCESS_TOKEN does not take precedence")
	}
}

func TestMachine_LastExitAndCrash(t *testing.T) {
	exit := func(code, restarts int, requested bool) fly.Event {
		return fly.Event{Type: "exit", Timestamp: 5, Request: &fly.EventRequest{RestartCount: restarts, ExitEvent: &fly.ExitEvent{ExitCode: code, RequestedStop: requested}}}
	}
	of := func(kind string) fly.Event { return fly.Event{Type: kind} }
	old := fly.Event{Type: "exit", Request: &fly.EventRequest{MonitorEvent: &fly.MonitorEvent{ExitEvent: &fly.ExitEvent{ExitCode: 9}}}}
	for name, test := range map[string]struct {
		events      []fly.Event
		last, crash int // -1: none
		launched    bool
	}{
		"never ran":                        {nil, -1, -1, false},
		"ended":                            {[]fly.Event{exit(3, 0, false), of("start"), of("launch")}, 3, 3, true},
		"ended, then destroyed":            {[]fly.Event{of("destroy"), exit(0, 0, false), of("start"), of("launch")}, 0, -1, true},
		"crashed and runs again":           {[]fly.Event{of("start"), exit(1, 1, false), of("start"), of("update")}, -1, 1, true},
		"the version before crashed":       {[]fly.Event{of("start"), of("update"), exit(1, 1, false), of("start")}, -1, -1, true},
		"updated, not started yet":         {[]fly.Event{of("update"), exit(1, 1, false)}, -1, -1, false},
		"stopped on request":               {[]fly.Event{exit(143, 0, true), of("stop"), of("start"), of("launch")}, 143, -1, true},
		"an event in the older form":       {[]fly.Event{old, of("start")}, 9, 9, true},
		"an exit without details":          {[]fly.Event{of("exit"), of("start")}, -1, -1, true},
		"crashed, then stopped on request": {[]fly.Event{exit(0, 1, true), of("start"), exit(2, 1, false), of("launch")}, 0, 2, true},
	} {
		code := func(x fly.Exit, ok bool) int {
			if !ok {
				return -1
			}
			return x.Code
		}
		m := fly.Machine{Events: test.events}
		if got := code(m.LastExit()); got != test.last {
			t.Errorf("%s: last exit %d, want %d", name, got, test.last)
		}
		if got := code(m.LastCrash()); got != test.crash {
			t.Errorf("%s: last crash %d, want %d", name, got, test.crash)
		}
		if got := m.Launched(); got != test.launched {
			t.Errorf("%s: launched is %t", name, got)
		}
		if m.InstanceID = "01HXYZ00000000000000000000"; m.Launched() {
			t.Errorf("%s: launched, and its events are older than its version", name)
		}
	}
}

// TestMachine_VersionTime uses the examples of Fly's documentation.
func TestMachine_VersionTime(t *testing.T) {
	for version, want := range map[string]string{
		"01HEPA330HZ37A78TK080NAK1M": "2023-11-08T01:52:30Z",
		"01G3SHPT434MNW8TS4ENX11RQY": "2022-05-23T22:48:21Z",
		"01g3shpt434mnw8ts4enx11rqy": "2022-05-23T22:48:21Z",
	} {
		if got := (fly.Machine{InstanceID: version}).VersionTime().UTC().Truncate(time.Second).Format(time.RFC3339); got != want {
			t.Errorf("time of version %s is %s, want %s", version, got, want)
		}
	}
	for _, version := range []string{"", "v1", "01HEPA330HZ37A78TK080NAK1M7", "81HEPA330HZ37A78TK080NAK1M", "01HEPA330HZ37A78TK080NAK1U"} {
		if got := (fly.Machine{InstanceID: version}).VersionTime(); !got.IsZero() {
			t.Errorf("time of version %q is %s", version, got)
		}
	}
}

// TestMachine_NullIsAbsent: Fly sends null for a config that does not apply.
func TestMachine_NullIsAbsent(t *testing.T) {
	const away = `{"id":"m1","name":null,"instance_id":null,"image_ref":null,"config": null ,"incomplete_config":{"metadata":{"a":"b"}},"events":null,"checks":null,"updated_at":null,"host_status":"unreachable"}`
	const here = `{"id":"m2","config":{"metadata":{"a":"c"}},"incomplete_config":null,"host_status":"ok"}`
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /v1/apps/shop/machines":
			fmt.Fprint(w, "["+away+","+here+"]")
		default:
			fmt.Fprint(w, away)
		}
	})
	all, err := c.Machines(t.Context(), "shop")
	if err != nil || len(all) != 2 || all[0].Config != nil || all[0].Metadata()["a"] != "b" || all[1].IncompleteConfig != nil || all[1].Metadata()["a"] != "c" {
		t.Errorf("%+v, %v", all, err)
	}
	one, err := c.Machine(t.Context(), "shop", "m1")
	made, createErr := c.Create(t.Context(), "shop", fly.Create{Config: json.RawMessage(`{}`)})
	updated, updateErr := c.Update(t.Context(), "shop", "m1", fly.Update{Config: json.RawMessage(`{}`)})
	for _, m := range []fly.Machine{one, made, updated} {
		if m.Config != nil || m.Metadata()["a"] != "b" {
			t.Errorf("%+v", m)
		}
	}
	if err := errors.Join(err, createErr, updateErr); err != nil {
		t.Error(err)
	}
}

// TestOlderVersion: versions are ULIDs and sort by time, in upper or lower
// case.
func TestOlderVersion(t *testing.T) {
	const first, second = "01G3SHPT434MNW8TS4ENX11RQY", "01hepa330hz37a78tk080nak1m"
	if !fly.OlderVersion(first, second) || fly.OlderVersion(second, first) || fly.OlderVersion(first, first) {
		t.Error("versions are not sorted by time")
	}
	if fly.OlderVersion("", second) || fly.OlderVersion(first, "v2") {
		t.Error("an invalid version is older than a valid one")
	}
}

// TestMachine_CompatibilityChecksLeftOut: checks that Fly invents for old
// clients are dropped.
func TestMachine_CompatibilityChecksLeftOut(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"id":"m1","checks":[{"name":"bg_deployments_compat_1","status":"critical"},{"name":"servicecheck-00-http-8080","status":"passing"}]}`)
	})
	m, err := c.Machine(t.Context(), "shop", "m1")
	if err != nil || len(m.Checks) != 1 || m.Checks[0].Name != "servicecheck-00-http-8080" {
		t.Errorf("checks %+v, %v", m.Checks, err)
	}
}

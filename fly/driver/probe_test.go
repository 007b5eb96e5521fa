package driver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/microbima/release/release"
)

// A probe has the configured method and headers and follows no redirect to another
// host. The failure has no body of a page behind a redirect.
func TestProbe(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the probe followed a redirect to another host")
	}))
	defer inner.Close()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/head" && (r.Method != http.MethodHead || r.Header.Get("X-Who") != "release" || r.Host != "shop.example"):
			http.Error(w, "not the configured request", http.StatusTeapot)
		case r.URL.Path == "/elsewhere":
			http.Redirect(w, r, inner.URL+"/secret", http.StatusFound)
		case r.URL.Path == "/here":
			http.Redirect(w, r, "/secret", http.StatusFound)
		case r.URL.Path == "/secret":
			http.Error(w, "the secret", http.StatusInternalServerError)
		case r.URL.Path == "/gone":
			http.Error(w, "no such page", http.StatusNotFound)
		}
	}))
	defer app.Close()
	for name, test := range map[string]struct {
		probe           release.Probe
		want            release.Health
		errText, output string
	}{
		"method, header and host": {release.Probe{Path: "/head", Method: "HEAD", Headers: map[string][]string{"x-who": {"release"}, "Host": {"shop.example"}}}, release.Healthy, "", ""},
		"to another host":         {release.Probe{Path: "/elsewhere"}, release.Healthy, "", ""},
		"to the same host":        {release.Probe{Path: "/here"}, release.Unhealthy, "with a redirect, and there with 500", ""},
		"an answer of its own":    {release.Probe{Path: "/gone", Setting: "probe of [apps.web] in release.toml"}, release.Unhealthy, "404 Not Found: this is the probe that release sends, named by probe of [apps.web]", "no such page\n"},
	} {
		health, failures := new(Driver).sendProbe(t.Context(), release.Target{App: "web"}, test.probe, app.URL)
		if health != test.want || test.want == release.Healthy && len(failures) > 0 {
			t.Errorf("%s: %s %v", name, health, failures)
		}
		if test.errText != "" && (len(failures) != 1 || !strings.Contains(failures[0].Reason, test.errText) || failures[0].Output != test.output) {
			t.Errorf("%s: %+v", name, failures)
		}
	}
}

// A probe does not reach a host name that resolves to an internal address.
func TestProbe_InternalAddress(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the internal address was reached") }))
	defer app.Close()
	url := strings.Replace(app.URL, "127.0.0.1", "localhost", 1)
	health, failures := new(Driver).sendProbe(t.Context(), release.Target{App: "web"}, release.Probe{Path: "/"}, url)
	if health != release.Unknown || len(failures) != 1 || !strings.Contains(failures[0].Output, "is not a public address") {
		t.Errorf("%s %+v", health, failures)
	}
}

package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func load(t *testing.T, internal http.HandlerFunc) *httptest.ResponseRecorder {
	t.Helper()
	srv := httptest.NewServer(internal)
	defer srv.Close()
	mux := http.NewServeMux()
	env := map[string]string{"INTERNAL_API_URL": srv.URL, "FLY_REGION": "fra"}
	if err := routes(func(k string) string { return env[k] })(mux, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	return rec
}

func TestThePageShowsTheGreeting(t *testing.T) {
	got := load(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"message":"Hi <script>","machine":"m7","region":"ord"}`))
	})
	page := got.Body.String()
	if got.Code != 200 || !strings.Contains(page, message) || !strings.Contains(page, "machine m7, region ord") {
		t.Errorf("got %d %s", got.Code, page)
	}
	if strings.Contains(page, "<script>") {
		t.Error("the page runs what internal-api said")
	}
}

func TestThePageSaysWhyThereIsNone(t *testing.T) {
	got := load(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the database is away", 500) })
	if got.Code != 502 || !strings.Contains(got.Body.String(), "the database is away") {
		t.Errorf("got %d %s; want 502 and the cause", got.Code, got.Body)
	}
}

func TestItDoesNotStartWithoutInternalAPI(t *testing.T) {
	err := routes(func(string) string { return "" })(http.NewServeMux(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "INTERNAL_API_URL") {
		t.Errorf("got %v", err)
	}
}

func TestItIsHealthy(t *testing.T) {
	if err := healthy(); err != nil {
		t.Error(err)
	}
}

package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func getPage(t *testing.T, internal http.HandlerFunc) *httptest.ResponseRecorder {
	t.Helper()
	srv := httptest.NewServer(internal)
	defer srv.Close()
	mux := http.NewServeMux()
	env := map[string]string{"INTERNAL_API_URL": srv.URL, "FLY_REGION": "fra"}
	if err := newRoutes(func(k string) string { return env[k] })(mux, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	return rec
}

func TestRoutes_PageShowsGreeting(t *testing.T) {
	got := getPage(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"message":"Hi <script>","machine":"m7","region":"ord"}`))
	})
	page := got.Body.String()
	if got.Code != 200 || !strings.Contains(page, message) || !strings.Contains(page, "machine m7, region ord") {
		t.Errorf("got %d %s", got.Code, page)
	}
	if strings.Contains(page, "<script>") {
		t.Error("the page does not escape the answer of internal-api")
	}
}

func TestRoutes_PageShowsCause(t *testing.T) {
	got := getPage(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the database is unreachable", 500) })
	if got.Code != 502 || !strings.Contains(got.Body.String(), "the database is unreachable") {
		t.Errorf("got %d %s; want 502 and the cause", got.Code, got.Body)
	}
}

func TestRoutes_MissingInternalAPI(t *testing.T) {
	err := newRoutes(func(string) string { return "" })(http.NewServeMux(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "INTERNAL_API_URL") {
		t.Errorf("got %v", err)
	}
}

func TestHealthy(t *testing.T) {
	if err := healthy(); err != nil {
		t.Error(err)
	}
}

package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func getHello(t *testing.T, internal http.HandlerFunc) *httptest.ResponseRecorder {
	t.Helper()
	srv := httptest.NewServer(internal)
	defer srv.Close()
	mux := http.NewServeMux()
	env := map[string]string{"INTERNAL_API_URL": srv.URL}
	if err := newRoutes(func(k string) string { return env[k] })(mux, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest("GET", "/v1/hello?name=Ada", nil))
	return rec
}

func TestRoutes_Hello(t *testing.T) {
	got := getHello(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(`{"message":"Hi ` + r.URL.Query().Get("name") + `"}`))
	})
	if got.Code != 200 || !strings.Contains(got.Body.String(), "Hi Ada") || !strings.Contains(got.Body.String(), message) {
		t.Errorf("got %d %s", got.Code, got.Body)
	}
}

func TestRoutes_HidesCause(t *testing.T) {
	got := getHello(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "pg at fdaa::3 is unreachable", 500) })
	if got.Code != 502 || strings.Contains(got.Body.String(), "fdaa") {
		t.Errorf("got %d %s; want 502 without the cause", got.Code, got.Body)
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

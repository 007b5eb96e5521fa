package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func getJSON(t *testing.T, path string, answer any) int {
	t.Helper()
	env := map[string]string{"FLY_MACHINE_ID": "m1", "FLY_REGION": "fra", "FLY_MACHINE_VERSION": "01H"}
	mux := http.NewServeMux()
	if err := newRoutes(func(k string) string { return env[k] })(mux, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
	if err := json.Unmarshal(rec.Body.Bytes(), answer); err != nil {
		t.Fatalf("GET %s: %s: %v", path, rec.Body, err)
	}
	return rec.Code
}

func TestRoutes_Greeting(t *testing.T) {
	var got struct{ Message, Name, Machine string }
	if code := getJSON(t, "/v1/greeting?name=Ada", &got); code != 200 || got.Message != message+", Ada" || got.Machine != "m1" {
		t.Errorf("got %d %+v", code, got)
	}
	var refused struct{ Error string }
	if code := getJSON(t, "/v1/greeting?name="+strings.Repeat("a", 101), &refused); code != 400 || refused.Error == "" {
		t.Errorf("a name of 101 letters: got %d %+v", code, refused)
	}
}

func TestRoutes_Status(t *testing.T) {
	var got status
	if code := getJSON(t, "/v1/status", &got); code != 200 || got.Version != "01H" || got.Machine != "m1" || got.Region != "fra" {
		t.Errorf("got %d %+v", code, got)
	}
}

func TestHealthy(t *testing.T) {
	if err := healthy(); err != nil {
		t.Error(err)
	}
}

package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// startService runs s and returns its URL, a function that stops it, and its result.
func startService(t *testing.T, s Service, env map[string]string, log io.Writer) (url string, stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ready, done := make(chan net.Addr, 1), make(chan error, 1)
	getenv := func(k string) string {
		return map[string]string{"HOST": "127.0.0.1", "PORT": "0"}[k] + env[k]
	}
	go func() { done <- s.run(ctx, log, getenv, ready) }()
	select {
	case a := <-ready:
		return "http://" + a.String(), cancel, done
	case err := <-done:
		t.Fatalf("the service ended before it listened: %v", err)
		return "", nil, nil
	}
}

func getURL(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func noRoutes(*http.ServeMux, *slog.Logger) error { return nil }

func TestHealth_FollowsService(t *testing.T) {
	var unhealthy atomic.Bool
	url, stop, ended := startService(t, Service{Name: "x", Routes: noRoutes, Healthy: func() error {
		if unhealthy.Load() {
			return errors.New("the pool is empty")
		}
		return nil
	}}, nil, io.Discard)

	code, body := getURL(t, url+"/health")
	if code != 200 || !strings.Contains(body, `"status":"ok"`) {
		t.Errorf("healthy: got %d %s", code, body)
	}
	unhealthy.Store(true)
	code, body = getURL(t, url+"/health")
	if code != 503 || !strings.Contains(body, "the pool is empty") {
		t.Errorf("unhealthy: got %d %s; want 503 and the reason", code, body)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRun_DrainsRequestsAfterStop(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	url, stop, ended := startService(t, Service{Name: "x", Healthy: func() error { return nil }, Routes: func(mux *http.ServeMux, _ *slog.Logger) error {
		mux.HandleFunc("GET /slow", func(w http.ResponseWriter, _ *http.Request) {
			entered <- true
			<-leave
			JSON(w, 200, "whole")
		})
		return nil
	}}, nil, io.Discard)
	answer := make(chan string, 1)
	go func() {
		res, err := http.Get(url + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		answer <- strings.TrimSpace(string(b)) + map[bool]string{true: " cut"}[err != nil]
	}()
	<-entered
	stop()
	select {
	case err := <-ended:
		t.Fatalf("the service ended with an open request: %v", err)
	default:
	}
	close(leave)
	if got := <-answer; got != `"whole"` {
		t.Errorf("the request got %s", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRun_LogsJSONAtLevel(t *testing.T) {
	for level, want := range map[string]bool{"debug": true, "": false, "warn": false} {
		var log bytes.Buffer
		url, stop, ended := startService(t, Service{Name: "x", Routes: noRoutes, Healthy: func() error { return nil }},
			map[string]string{"LOG_LEVEL": level, "FLY_REGION": "fra"}, &log)
		getURL(t, url+"/health")
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), `"msg":"request"`); got != want {
			t.Errorf("LOG_LEVEL=%s: request logged: %v, want %v", level, got, want)
		}
		for line := range strings.Lines(log.String()) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["region"] != "fra" {
				t.Errorf("log line %q: %v", line, err)
			}
		}
	}
}

func TestRun_InvalidSettings(t *testing.T) {
	for _, env := range []map[string]string{
		{"PORT": "http"}, {"LOG_LEVEL": "loud"}, {"SENTRY_TRACES_SAMPLE_RATE": "10"}, {"SENTRY_TRACES_SAMPLE_RATE": "NaN"},
	} {
		err := Service{Name: "x", Routes: noRoutes}.run(t.Context(), io.Discard, func(k string) string { return env[k] }, nil)
		for k, v := range env {
			if err == nil || !strings.Contains(err.Error(), k) || !strings.Contains(err.Error(), v) {
				t.Errorf("%s=%s: got %v; want an error that names both", k, v, err)
			}
		}
	}
}

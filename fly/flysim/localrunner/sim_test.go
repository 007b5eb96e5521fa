//go:build unix

package localrunner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

// A simWorld is a Sim whose machines are processes, with a client.
type simWorld struct {
	t   *testing.T
	sim *flysim.Sim
	url string
}

func newWorld(t *testing.T, runner *Runner, journal string) simWorld {
	sim := &flysim.Sim{Runner: runner, Images: runner.Image, CheckEvery: 20 * time.Millisecond, Journal: journal}
	server := httptest.NewServer(sim)
	t.Cleanup(func() {
		sim.Close()
		server.Close()
	})
	return simWorld{t, sim, server.URL}
}

// callAPI makes one call of the Machines API.
func (w simWorld) callAPI(method, path string, body any) fly.Machine {
	w.t.Helper()
	doc, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequest(method, w.url+"/v1/apps"+path, bytes.NewReader(doc))
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode > 299 {
		w.t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, answer, err)
	}
	var m fly.Machine
	if err := json.Unmarshal(answer, &m); err != nil {
		w.t.Fatalf("%s %s: %s: %v", method, path, answer, err)
	}
	return m
}

func (w simWorld) createMachine(image string, env map[string]string) fly.Machine {
	w.t.Helper()
	return w.callAPI("POST", "/shop/machines", map[string]any{"region": "ord", "config": serviceConfig(image, env)})
}

func (w simWorld) awaitHealthy(id string) {
	w.t.Helper()
	waitUntil(w.t, func() bool {
		m := w.callAPI("GET", "/shop/machines/"+id, nil)
		return m.State == "started" && len(m.Checks) == 1 && m.Checks[0].Status == "passing"
	})
}

func serviceConfig(image string, env map[string]string) map[string]any {
	return map[string]any{
		"image": image, "env": env,
		"metadata": map[string]string{"fly_platform_version": "v2", "fly_process_group": "app"},
		"services": []any{map[string]any{
			"protocol": "tcp", "internal_port": 8080,
			"ports":  []any{map[string]any{"port": 443, "handlers": []string{"tls", "http"}}},
			"checks": []any{map[string]any{"type": "http", "path": "/health", "interval": "1s", "timeout": "5s"}},
		}},
	}
}

func TestSim_MachinesAsProcesses(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	w := newWorld(t, runner, "")
	image := pushServer(t, runner)
	w.callAPI("POST", "", map[string]string{"app_name": "shop", "name": "shop", "org_slug": "personal"})

	a := w.createMachine(image, nil)
	w.awaitHealthy(a.ID)
	m := w.callAPI("GET", "/shop/machines/"+a.ID, nil)
	if !strings.HasSuffix(image, m.ImageRef.Digest) || m.ImageRef.Digest == "" {
		t.Errorf("image is %s, want the digest of %s", m.ImageRef, image)
	}
	if !strings.Contains(m.Checks[0].Output, "well") {
		t.Errorf("output of the check is %q, want the response of the process", m.Checks[0].Output)
	}
	url := runner.URL("shop")
	served := func() string { _, body := httpGet(t, url+"/who"); return body }
	waitUntil(t, func() bool { return served() == a.ID })

	b := w.createMachine(image, nil)
	w.awaitHealthy(b.ID)
	waitUntil(t, func() bool { return served() == b.ID })

	w.callAPI("POST", "/shop/machines/"+a.ID+"/cordon", nil)
	for range 4 {
		if who := served(); who != b.ID {
			t.Errorf("served by %q, want %q: the other is cordoned", who, b.ID)
		}
	}
	w.callAPI("POST", "/shop/machines/"+a.ID+"/uncordon", nil)
	waitUntil(t, func() bool { return served() == a.ID })

	w.callAPI("POST", "/shop/machines/"+a.ID, map[string]any{"config": serviceConfig(image, map[string]string{"EXIT": "7"})})
	waitUntil(t, func() bool {
		crash, ok := w.callAPI("GET", "/shop/machines/"+a.ID, nil).LastCrash()
		return ok && crash.Code == 7
	})
	for range 4 {
		if who := served(); who != b.ID {
			t.Errorf("served by %q, want %q: the other crashes", who, b.ID)
		}
	}
}

func TestSim_MissingImageFailsMachine(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	w := newWorld(t, runner, "")
	w.sim.Images = nil // else the create would be refused
	w.sim.CreateApp("shop", "")
	m := w.createMachine(fmt.Sprintf("%s/shop@sha256:%064d", runner.Registry(), 0), nil)
	waitUntil(t, func() bool { return w.callAPI("GET", "/shop/machines/"+m.ID, nil).State == "failed" })
}

func TestSim_MachinesRestartFromJournal(t *testing.T) {
	dir, journal := t.TempDir(), filepath.Join(t.TempDir(), "fly.json")
	var url string
	var m fly.Machine
	t.Run("before", func(t *testing.T) {
		runner := openRunner(t, dir)
		w := newWorld(t, runner, journal)
		w.sim.CreateApp("shop", "")
		m = w.createMachine(pushServer(t, runner), nil)
		w.awaitHealthy(m.ID)
		url = runner.URL("shop")
	})
	w := newWorld(t, openRunner(t, dir), journal)
	w.awaitHealthy(m.ID)
	waitUntil(t, func() bool { _, who := httpGet(t, url+"/who"); return who == m.ID })
}

package devserver

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"
)

func TestWebUI_Answers(t *testing.T) {
	s := startServer(t, Options{Namespace: "releases"})
	if status, body := get(t, http.DefaultClient, s.UI()+"/", ""); status != http.StatusOK || !strings.Contains(body, "<html") {
		t.Fatalf("GET / answered %d: %.200s", status, body)
	}
	status, body := get(t, http.DefaultClient, s.UI()+"/api/v1/namespaces", "")
	if status != http.StatusOK || !strings.Contains(body, `"releases"`) {
		t.Errorf("its API answered %d: %.500s", status, body)
	}
	var settings map[string]any
	_, body = get(t, http.DefaultClient, s.UI()+"/api/v1/settings", "")
	if err := json.Unmarshal([]byte(body), &settings); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"WorkflowTerminateDisabled": true, "WorkflowResetDisabled": true, "BatchActionsDisabled": true,
		"WorkflowSignalDisabled": false, "WorkflowUpdateDisabled": false, "WorkflowCancelDisabled": false,
		"DisableWriteActions": false,
	} {
		if settings[name] != want {
			t.Errorf("%s is %v, want %v", name, settings[name], want)
		}
	}
}

func TestWebUI_ForeignHost(t *testing.T) {
	s := startServer(t, Options{})
	port := s.UI()[strings.LastIndex(s.UI(), ":")+1:]
	for host, want := range map[string]int{
		"127.0.0.1:" + port:    http.StatusOK,
		"localhost:" + port:    http.StatusOK,
		"[::1]:" + port:        http.StatusOK,
		"evil.example:" + port: http.StatusForbidden,
		"evil.example":         http.StatusForbidden,
		"127.0.0.1":            http.StatusForbidden,
		"127.0.0.1:1":          http.StatusForbidden,
	} {
		for _, path := range []string{"/", "/api/v1/namespaces"} {
			if got, _ := get(t, http.DefaultClient, s.UI()+path, host); got != want {
				t.Errorf("GET %s with Host %s answered %d, want %d", path, host, got, want)
			}
		}
	}
}

// The requests of the UI's approval dialog succeed; the same requests from another web
// page fail.
func TestWebUI_Approval(t *testing.T) {
	s := startServer(t, Options{})
	c := dial(t, s)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "release/shop/1", TaskQueue: queue}, waitForApproval)
	if err != nil {
		t.Fatal(err)
	}
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	workflow := s.UI() + "/api/v1/namespaces/default/workflows/" + url.PathEscape(run.GetID())
	get(t, browser, s.UI()+"/", "")
	signal := `{"signalName":"approve","input":{"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"ImFubiI="}]}}`

	if got, body := post(t, http.DefaultClient, workflow+"/signal/approve", signal, nil); got < 400 {
		t.Errorf("a signal without the UI's cookie answered %d: %s", got, body)
	}
	foreign := map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example", "X-CSRF-Token": csrfToken(t, jar, s.UI())}
	if got, body := post(t, browser, workflow+"/signal/approve", signal, foreign); got < 400 {
		t.Errorf("a signal from another site answered %d: %s", got, body)
	}
	own := map[string]string{"X-CSRF-Token": csrfToken(t, jar, s.UI())}
	for _, call := range []string{"/terminate", "/reset"} {
		if got, body := post(t, browser, workflow+call, `{}`, own); got != http.StatusForbidden {
			t.Errorf("POST %s answered %d: %s", call, got, body)
		}
	}
	if got, body := post(t, browser, workflow+"/signal/approve", signal, own); got != http.StatusOK {
		t.Fatalf("the signal answered %d: %s", got, body)
	}
	startWorker(t, c)
	var by string
	if err := run.Get(t.Context(), &by); err != nil || by != "ann" {
		t.Errorf("approved by %q, %v; want ann", by, err)
	}
}

func csrfToken(t *testing.T, jar http.CookieJar, site string) string {
	t.Helper()
	u, err := url.Parse(site)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range jar.Cookies(u) {
		if c.Name == "_csrf" {
			return c.Value
		}
	}
	t.Fatal("the UI gave no CSRF cookie over http")
	return ""
}

func get(t *testing.T, c *http.Client, url, host string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	return do(t, c, r)
}

func post(t *testing.T, c *http.Client, url, body string, header map[string]string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for k, v := range header {
		r.Header.Set(k, v)
	}
	return do(t, c, r)
}

func do(t *testing.T, c *http.Client, r *http.Request) (int, string) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", r.URL, err))
	}
	return resp.StatusCode, string(body)
}

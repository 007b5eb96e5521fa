package fly_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/fly"
)

// FuzzAnswers sends arbitrary responses to every call: none makes the client
// panic, repeat the token, or return a very long error.
func FuzzAnswers(f *testing.F) {
	const token = "fm2_c2VjcmV0c2VjcmV0c2VjcmV0"
	machine := `{"id":"m1","name":"one","state":"started","region":"fra","instance_id":"01HZZZZZZZZZZZZZZZZZZZZZZZ","config":{"image":"a"},"checks":[{"name":"x","status":"passing"}],"events":[{"type":"exit","timestamp":1,"request":{"exit_event":{"exit_code":3}}}]}`
	for _, body := range []string{
		"", "null", "{}", "[]", `""`, "0", "<html>502 Bad Gateway</html>", machine, "[" + machine + "]", `{"status":"success","data":{"nonce":"n","expires_at":1}}`,
		`{"error":"` + token + ` is wrong","status":"unknown"}`, `{"release":{"id":"r1","version":7}}`, `{"secrets":[{"name":"A"}],"version":3}`,
		`{"data":{"app":{"hostname":"x","config":{"definition":{}}}}}`, `{"errors":[{"message":"no","extensions":{"code":"NOT_FOUND"}}]}`, `{"ips":[{"ip":"::1"}]}`,
		"[" + machine[:40], strings.Repeat("[", 20_000), `{"id":"m1","config":` + strings.Repeat("9", 400) + `}`, `{"events":[{"timestamp":-9223372036854775808}]}`,
	} {
		for _, status := range []int{200, 201, 204, 302, 404, 408, 409, 412, 422, 429, 500, 503} {
			f.Add(status, []byte(body), "7")
		}
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, after string) {
		if status < 200 || status > 599 {
			status = 200 + (status&0x7fffffff)%400
		}
		c := &fly.Client{Token: token, Unlimited: true, HTTP: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {after}}, Body: io.NopCloser(bytes.NewReader(body))}, nil
		})}}
		for name, ask := range allCalls(c) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			err := ask(ctx)
			if ctx.Err() != nil {
				t.Errorf("%s hangs: %v", name, err)
			}
			cancel()
			if err == nil {
				continue
			}
			if text := err.Error(); strings.Contains(text, token) || len(text) > 4<<10 || text == "" {
				t.Errorf("%s: %d bytes of error: %.300q", name, len(text), text)
			}
		}
	})
}

// allCalls returns every call of the client.
func allCalls(c *fly.Client) map[string]func(context.Context) error {
	config := json.RawMessage(`{"image":"a"}`)
	return map[string]func(context.Context) error{
		"app":             func(ctx context.Context) error { _, err := c.App(ctx, "shop"); return err },
		"secrets":         func(ctx context.Context) error { _, err := c.Secrets(ctx, "shop"); return err },
		"secrets version": func(ctx context.Context) error { _, err := c.SecretsVersion(ctx, "shop"); return err },
		"logs":            func(ctx context.Context) error { _, err := c.Logs(ctx, "shop", "m1"); return err },
		"machines":        func(ctx context.Context) error { return readAll(c.Machines(ctx, "shop")) },
		"all machines":    func(ctx context.Context) error { return readAll(c.AllMachines(ctx, "shop")) },
		"machine": func(ctx context.Context) error {
			m, err := c.Machine(ctx, "shop", "m1")
			return readAll([]fly.Machine{m}, err)
		},
		"create": func(ctx context.Context) error {
			_, err := c.Create(ctx, "shop", fly.Create{Config: config})
			return err
		},
		"update": func(ctx context.Context) error {
			_, err := c.Update(ctx, "shop", "m1", fly.Update{Config: config})
			return err
		},
		"stop":    func(ctx context.Context) error { return c.Stop(ctx, "shop", "m1", "n") },
		"destroy": func(ctx context.Context) error { return c.Destroy(ctx, "shop", "m1", "n") },
		"wait": func(ctx context.Context) error {
			return c.Wait(ctx, "shop", "m1", fly.Wait{State: "started", Timeout: time.Second})
		},
		"take a lease": func(ctx context.Context) error {
			_, err := c.TakeLease(ctx, "shop", "m1", "me", time.Minute)
			return err
		},
		"read a lease": func(ctx context.Context) error { _, err := c.ReadLease(ctx, "shop", "m1"); return err },
		"volumes":      func(ctx context.Context) error { _, err := c.Volumes(ctx, "shop"); return err },
		"create a volume": func(ctx context.Context) error {
			_, err := c.CreateVolume(ctx, "shop", fly.NewVolume{Name: "data"})
			return err
		},
		"addresses":  func(ctx context.Context) error { _, err := c.Addresses(ctx, "shop"); return err },
		"an address": func(ctx context.Context) error { _, err := c.AssignAddress(ctx, "shop", "v6"); return err },
		"a release": func(ctx context.Context) error {
			_, err := c.CreateRelease(ctx, fly.NewRelease{App: "shop"})
			return err
		},
		"end a release": func(ctx context.Context) error { return c.UpdateRelease(ctx, "r1", "complete", "") },
		"releases":      func(ctx context.Context) error { _, err := c.Releases(ctx, "shop"); return err },
	}
}

// readAll calls the methods of the machines in a response.
func readAll(machines []fly.Machine, err error) error {
	for _, m := range machines {
		m.Metadata()
		m.LastExit()
		m.LastCrash()
		m.Launched()
		m.VersionTime()
	}
	return err
}

// An endless response is given up in bounded memory.
func TestClient_EndlessResponse(t *testing.T) {
	read := int64(0)
	c := &fly.Client{Unlimited: true, HTTP: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(&endlessReader{&read})}, nil
	})}}
	_, err := c.Machines(t.Context(), "shop")
	wantError(t, err, fly.ErrTooLong)
	if read > 32<<20 {
		t.Errorf("%d MB were read", read>>20)
	}
}

// endlessReader reads as spaces without end.
type endlessReader struct{ read *int64 }

func (e *endlessReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	*e.read += int64(len(p))
	return len(p), nil
}

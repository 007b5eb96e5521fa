package fly_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/microbima/release/fly"
)

// TestCreateRelease_SameRequestsAsFlyctl: otherwise flyctl releases and flyctl
// config show would print something else.
func TestCreateRelease_SameRequestsAsFlyctl(t *testing.T) {
	var told []string
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		told = append(told, r.Method+" "+r.URL.Path+" "+string(b))
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"release":{"id":"r1","version":7}}`)
	})
	definition := json.RawMessage(`{"app":"shop","http_service":{"internal_port":8080}}`)
	r, err := c.CreateRelease(t.Context(), fly.NewRelease{App: "shop", Image: "registry.fly.io/shop@sha256:aa", Strategy: "bluegreen", Definition: definition})
	if err != nil || r.ID != "r1" || r.Version != 7 {
		t.Fatal(r, err)
	}
	if err := errors.Join(c.UpdateRelease(t.Context(), "r1", "running", ""), c.UpdateRelease(t.Context(), "r1", "failed", "it was <bad>")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`POST /api/v1/releases {"app_name":"shop","build_id":0,"definition":{"app":"shop","http_service":{"internal_port":8080}},"image":"registry.fly.io/shop@sha256:aa","strategy":"BLUEGREEN"}`,
		`PATCH /api/v1/releases/r1 {"metadata":null,"status":"running"}`,
		`PATCH /api/v1/releases/r1 {"metadata":{"post_deployment_info":{"error":"it was <bad>","flyctl_version":"release"}},"status":"failed"}`,
	}
	if !slices.Equal(told, want) {
		t.Errorf("sent\n%q, want\n%q", told, want)
	}
	_, err = c.CreateRelease(t.Context(), fly.NewRelease{App: "shop", Definition: json.RawMessage(`{`)})
	wantError(t, err, fly.ErrInvalid)
}

func TestReleases_NewestFirst(t *testing.T) {
	c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"releases":[{"id":"r8","version":8},{"id":"r10","version":10},{"id":"r9","version":9}]}`)
	})
	all, err := c.Releases(t.Context(), "shop")
	if err != nil || len(all) != 3 || all[0].ID != "r10" || all[2].ID != "r8" {
		t.Errorf("got %+v, %v", all, err)
	}
}

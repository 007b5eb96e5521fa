package greeting

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestGreet_ErrorHasAnswer(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("name") {
		case "a&b":
			http.Error(w, "no such name", http.StatusTeapot)
		default:
			w.Write([]byte("<html>"))
		}
	}))
	defer srv.Close()
	c, err := NewClient(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Greet(t.Context(), "a&b"); err == nil || !strings.Contains(err.Error(), "no such name") {
		t.Errorf("got %v; want the answer of internal-api", err)
	}
	if g, err := c.Greet(t.Context(), "x"); err == nil {
		t.Errorf("a page that is not a greeting is read as %+v", g)
	}
}

func TestNewClient_InvalidAddress(t *testing.T) {
	for _, base := range []string{"", "internal-api:8080", "ftp://x", "http://"} {
		if _, err := NewClient(base); err == nil || !strings.Contains(err.Error(), "INTERNAL_API_URL") {
			t.Errorf("%q: got %v", base, err)
		}
	}
}

// The web-admin service is a page for operators. The server calls internal-api, so that
// browsers do not need to reach it.
package main

import (
	"bytes"
	_ "embed"
	"html/template"
	"log/slog"
	"net/http"
	"os"

	"github.com/microbima/release/apps/internal/greeting"
	"github.com/microbima/release/apps/internal/service"
)

//go:embed page.html
var page string

func main() {
	os.Exit(service.Service{Name: "web-admin", Healthy: healthy, Routes: newRoutes(os.Getenv)}.Main())
}

// pageData is the content of the page: a greeting, or the error of getting one.
type pageData struct {
	Title, App, Machine, Region string
	API                         string
	Greeting                    greeting.Greeting
	Error                       string
}

// newRoutes returns a function that adds the routes of the service to a mux. It fails
// without INTERNAL_API_URL.
func newRoutes(getenv func(string) string) func(*http.ServeMux, *slog.Logger) error {
	return func(mux *http.ServeMux, log *slog.Logger) error {
		api, err := greeting.NewClient(getenv("INTERNAL_API_URL"))
		if err != nil {
			return err
		}
		tmpl, err := template.New("page").Parse(page)
		if err != nil {
			return err
		}
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
			v := pageData{
				Title: message, API: api.URL(),
				App: getenv("FLY_APP_NAME"), Machine: getenv("FLY_MACHINE_ID"), Region: getenv("FLY_REGION"),
			}
			status := http.StatusOK
			var err error
			if v.Greeting, err = api.Greet(r.Context(), "admin"); err != nil {
				log.Error("no greeting", "error", err.Error())
				v.Error, status = err.Error(), http.StatusBadGateway
			}
			writePage(w, log, tmpl, status, v)
		})
		return nil
	}
}

// writePage renders the page before it answers: the answer is a complete page or an
// error.
func writePage(w http.ResponseWriter, log *slog.Logger, tmpl *template.Template, status int, v pageData) {
	var b bytes.Buffer
	if err := tmpl.Execute(&b, v); err != nil {
		log.Error("cannot render the page", "error", err.Error())
		http.Error(w, "cannot render the page", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if _, err := b.WriteTo(w); err != nil {
		log.Debug("cannot send the page", "error", err.Error())
	}
}

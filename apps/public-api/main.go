// The public-api service is a public JSON API. It calls internal-api.
package main

import (
	"cmp"
	"log/slog"
	"net/http"
	"os"

	"github.com/microbima/release/apps/internal/greeting"
	"github.com/microbima/release/apps/internal/service"
)

func main() {
	os.Exit(service.Service{Name: "public-api", Healthy: healthy, Routes: newRoutes(os.Getenv)}.Main())
}

// newRoutes returns a function that adds the routes of the service to a mux. It fails
// without INTERNAL_API_URL.
func newRoutes(getenv func(string) string) func(*http.ServeMux, *slog.Logger) error {
	return func(mux *http.ServeMux, log *slog.Logger) error {
		api, err := greeting.NewClient(getenv("INTERNAL_API_URL"))
		if err != nil {
			return err
		}
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
			service.JSON(w, http.StatusOK, map[string]any{"name": message, "paths": []string{"/v1/hello?name=…"}})
		})
		mux.HandleFunc("GET /v1/hello", func(w http.ResponseWriter, r *http.Request) {
			g, err := api.Greet(r.Context(), cmp.Or(r.URL.Query().Get("name"), "world"))
			if err != nil {
				// The cause has addresses of the private network: it goes to the log only.
				log.Error("no greeting", "error", err.Error())
				service.JSON(w, http.StatusBadGateway, map[string]string{"error": "internal-api does not answer; try again later"})
				return
			}
			service.JSON(w, http.StatusOK, map[string]string{"hello": g.Message, "from": message})
		})
		return nil
	}
}

// The internal-api service returns greetings and its own version to the other services.
// Its Fly app has no public address.
package main

import (
	"cmp"
	"log/slog"
	"net/http"
	"os"
	"unicode/utf8"

	"github.com/microbima/release/apps/internal/greeting"
	"github.com/microbima/release/apps/internal/service"
)

func main() {
	os.Exit(service.Service{Name: "internal-api", Healthy: healthy, Routes: newRoutes(os.Getenv)}.Main())
}

// status is the version of the process that answers, and its machine.
type status struct {
	Service string `json:"service"`
	App     string `json:"app"`
	Version string `json:"version"` // Fly's version of the machine
	Image   string `json:"image"`
	Machine string `json:"machine"`
	Region  string `json:"region"`
}

// maxNameLength is the largest number of letters in a name.
const maxNameLength = 100

// newRoutes returns a function that adds the routes of the service to a mux.
func newRoutes(getenv func(string) string) func(*http.ServeMux, *slog.Logger) error {
	return func(mux *http.ServeMux, _ *slog.Logger) error {
		mux.HandleFunc("GET /v1/greeting", func(w http.ResponseWriter, r *http.Request) {
			name := cmp.Or(r.URL.Query().Get("name"), "world")
			if utf8.RuneCountInString(name) > maxNameLength {
				service.JSON(w, http.StatusBadRequest, map[string]string{"error": "name: must have at most 100 letters"})
				return
			}
			service.JSON(w, http.StatusOK, greeting.Greeting{
				Message: message + ", " + name, Name: name,
				Machine: getenv("FLY_MACHINE_ID"), Region: getenv("FLY_REGION"),
			})
		})
		mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
			service.JSON(w, http.StatusOK, status{
				Service: "internal-api",
				App:     getenv("FLY_APP_NAME"),
				Version: getenv("FLY_MACHINE_VERSION"),
				Image:   getenv("FLY_IMAGE_REF"),
				Machine: getenv("FLY_MACHINE_ID"),
				Region:  getenv("FLY_REGION"),
			})
		})
		return nil
	}
}

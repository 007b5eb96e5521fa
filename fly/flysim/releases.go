package flysim

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/microbima/release/fly"
)

// A flyRelease is a Fly release with the fields that the API does not return.
type flyRelease struct {
	fly.FlyRelease
	Definition json.RawMessage `json:"definition,omitempty"` // fly.toml as JSON
	Metadata   json.RawMessage `json:"metadata,omitempty"`   // of the last change of status
}

// definition returns the fly.toml of r, nil if it has none.
func (r *flyRelease) definition() any {
	if len(r.Definition) == 0 || string(r.Definition) == "{}" {
		return nil
	}
	return r.Definition
}

func (s *Sim) createRelease(c *call) (any, error) {
	var in struct {
		App        string          `json:"app_name"`
		Definition json.RawMessage `json:"definition"`
		Image      string          `json:"image"`
		Strategy   string          `json:"strategy"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	a := s.state.Apps[in.App]
	if a == nil {
		return nil, newAPIError(http.StatusNotFound, "app not found")
	}
	version := 1
	if n := len(a.Releases); n > 0 {
		version = a.Releases[n-1].Version + 1
	}
	r := &flyRelease{Definition: in.Definition, FlyRelease: fly.FlyRelease{ID: s.newID("release", 22), Version: version, Status: "pending",
		Strategy: in.Strategy, ImageRef: in.Image, User: "you@example.com", InProgress: true, CreatedAt: s.now()}}
	a.Releases = append(a.Releases, r)
	s.unsaved = true
	c.status = http.StatusCreated
	return map[string]any{"release": r.FlyRelease}, nil
}

func (s *Sim) updateRelease(c *call) (any, error) {
	var in struct {
		Status   string          `json:"status"`
		Metadata json.RawMessage `json:"metadata"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"pending", "running", "complete", "failed", "interrupted"}, in.Status) {
		return nil, newAPIError(http.StatusUnprocessableEntity, "invalid status %q", in.Status)
	}
	for _, a := range s.state.Apps {
		for _, r := range a.Releases {
			if r.ID == c.r.PathValue("release") {
				r.Status, r.Metadata = in.Status, in.Metadata
				r.InProgress = in.Status == "running" || in.Status == "pending"
				r.Stable = in.Status == "complete"
				if r.Stable && a.Status == "pending" {
					a.Status = "deployed"
				}
				s.unsaved = true
				return r.FlyRelease, nil
			}
		}
	}
	return nil, newAPIError(http.StatusNotFound, "release not found")
}

// releasedApp returns the app of a call about a Fly release, or "".
func (s *Sim) releasedApp(c *call) string {
	var in struct {
		App string `json:"app_name"`
	}
	id := c.r.PathValue("release")
	if id == "" {
		_ = json.Unmarshal(c.body, &in) // the handler reports the error
		return in.App
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, a := range s.state.Apps {
		if slices.ContainsFunc(a.Releases, func(r *flyRelease) bool { return r.ID == id }) {
			return name
		}
	}
	return ""
}

// newestReleases returns up to n releases, newest first; 0: all.
func (a *app) newestReleases(n int) []*flyRelease {
	out := append([]*flyRelease{}, a.Releases...)
	slices.Reverse(out)
	return out[:min(len(out), cmp.Or(n, len(out)))]
}

func (s *Sim) listReleases(c *call) (any, error) {
	limit, _ := strconv.Atoi(c.queryParam("limit"))
	out := []fly.FlyRelease{}
	for _, r := range c.app.newestReleases(max(limit, 0)) {
		out = append(out, r.FlyRelease)
	}
	return map[string]any{"releases": out}, nil
}

func (s *Sim) getCurrentRelease(c *call) (any, error) {
	if r := c.app.newestReleases(1); len(r) > 0 {
		return r[0].FlyRelease, nil
	}
	return nil, newAPIError(http.StatusNotFound, "app has no release")
}

func (s *Sim) listCurrentReleases(*call) (any, error) {
	out := map[string]time.Time{}
	for name, a := range s.state.Apps {
		if r := a.newestReleases(1); len(r) > 0 {
			out[name] = r[0].CreatedAt
		}
	}
	return out, nil
}

func (s *Sim) recordBuild(*call) (any, error) {
	s.state.Seq++
	return map[string]any{"id": s.state.Seq, "status": "ok", "wallclock_time_ms": 1}, nil
}

func orgView(slug string) any {
	return map[string]any{"id": "org-" + slug, "internal_numeric_id": 1, "slug": slug, "raw_slug": slug, "name": slug, "paid_plan": true,
		"personal": slug == "personal", "billing_status": "CURRENT", "billable": true, "provisions_beta_extensions": false, "remote_builder_image": ""}
}

func (s *Sim) getOrganization(c *call) (any, error) {
	return map[string]any{"organization": orgView(c.r.PathValue("org"))}, nil
}

func (s *Sim) listOrganizations(*call) (any, error) {
	list := []any{}
	for _, slug := range s.orgSlugs() {
		list = append(list, orgView(slug))
	}
	return map[string]any{"organizations": list}, nil
}

// orgSlugs returns the organizations that have an app, and the personal one.
func (s *Sim) orgSlugs() []string {
	slugs := []string{"personal"}
	for _, a := range s.state.Apps {
		if !slices.Contains(slugs, a.Org) {
			slugs = append(slugs, a.Org)
		}
	}
	slices.Sort(slugs)
	return slugs
}

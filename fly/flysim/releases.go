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

func (s *Sim) createRelease(c *call) (any, error) {
	var in struct {
		App        string          `json:"app_name"`
		Definition json.RawMessage `json:"definition"`
		Image      string          `json:"image"`
		Strategy   string          `json:"strategy"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	a := s.world.Apps[in.App]
	if a == nil {
		return nil, refuse(http.StatusNotFound, "app not found")
	}
	version := 1
	if n := len(a.Releases); n > 0 {
		version = a.Releases[n-1].Version + 1
	}
	r := &fly.FlyRelease{ID: s.newID("release", 22), Version: version, Status: "pending", Strategy: in.Strategy, ImageRef: in.Image,
		User: "you@example.com", InProgress: true, CreatedAt: s.now()}
	a.Releases = append(a.Releases, r)
	s.dirty = true
	c.status = http.StatusCreated
	return map[string]any{"release": r}, nil
}

func (s *Sim) updateRelease(c *call) (any, error) {
	var in struct {
		Status string `json:"status"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"pending", "running", "complete", "failed", "interrupted"}, in.Status) {
		return nil, refuse(http.StatusUnprocessableEntity, "invalid status %q", in.Status)
	}
	for _, a := range s.world.Apps {
		for _, r := range a.Releases {
			if r.ID == c.r.PathValue("release") {
				r.Status = in.Status
				r.InProgress = in.Status == "running" || in.Status == "pending"
				r.Stable = in.Status == "complete"
				s.dirty = true
				return r, nil
			}
		}
	}
	return nil, refuse(http.StatusNotFound, "release not found")
}

// newest lists up to n releases, the newest first.
func (a *app) newest(n int) []*fly.FlyRelease {
	out := append([]*fly.FlyRelease{}, a.Releases...)
	slices.Reverse(out)
	return out[:min(len(out), cmp.Or(n, len(out)))]
}

func (s *Sim) listReleases(c *call) (any, error) {
	limit, _ := strconv.Atoi(c.query("limit"))
	return map[string]any{"releases": c.app.newest(max(limit, 0))}, nil
}

func (s *Sim) currentRelease(c *call) (any, error) {
	if r := c.app.newest(1); len(r) > 0 {
		return r[0], nil
	}
	return nil, refuse(http.StatusNotFound, "no release yet")
}

func (s *Sim) currentReleases(*call) (any, error) {
	out := map[string]time.Time{}
	for name, a := range s.world.Apps {
		if r := a.newest(1); len(r) > 0 {
			out[name] = r[0].CreatedAt
		}
	}
	return out, nil
}

func (s *Sim) build(*call) (any, error) {
	s.world.Seq++
	return map[string]any{"id": s.world.Seq, "status": "ok", "wallclock_time_ms": 1}, nil
}

func orgView(slug string) any {
	return map[string]any{"id": "org-" + slug, "internal_numeric_id": 1, "slug": slug, "raw_slug": slug, "name": slug, "paid_plan": true,
		"personal": slug == "personal", "billing_status": "CURRENT", "billable": true, "provisions_beta_extensions": false, "remote_builder_image": ""}
}

func (s *Sim) organization(c *call) (any, error) {
	return map[string]any{"organization": orgView(c.r.PathValue("org"))}, nil
}

func (s *Sim) organizations(*call) (any, error) {
	list := []any{}
	for _, slug := range s.orgs() {
		list = append(list, orgView(slug))
	}
	return map[string]any{"organizations": list}, nil
}

// orgs are the organizations that have an app, and the personal one.
func (s *Sim) orgs() []string {
	slugs := []string{"personal"}
	for _, a := range s.world.Apps {
		if !slices.Contains(slugs, a.Org) {
			slugs = append(slugs, a.Org)
		}
	}
	slices.Sort(slugs)
	return slugs
}

// logs shows what machines printed, oldest first.
func (s *Sim) logs(c *call) (any, error) {
	data := []any{}
	for _, m := range c.app.sorted() {
		if want := c.query("instance"); want != "" && want != m.View.ID {
			continue
		}
		lines := slices.Clone(m.Lines)
		if m.proc != nil {
			for _, text := range m.proc.Log() {
				lines = append(lines, fly.LogLine{At: s.now(), Message: text, Level: "info", Instance: m.View.ID, Region: m.View.Region})
			}
		}
		for i, l := range lines {
			data = append(data, map[string]any{"id": m.View.ID + "-" + strconv.Itoa(i), "attributes": l})
		}
	}
	return map[string]any{"data": data, "meta": map[string]any{"next_token": ""}}, nil
}

package flysim

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"time"
)

// newApp adds an app. The lock must be held.
func (s *Sim) newApp(name, org string) *app {
	a := &app{ID: s.newID("app", 12), Number: len(s.state.Apps) + 1, Name: name, Org: cmp.Or(org, "personal"), Status: "pending",
		CreatedAt: s.now(), Machines: map[string]*machine{}, Secrets: map[string]secret{}}
	s.state.Apps[name] = a
	s.unsaved = true
	return a
}

func (a *app) apiView() any {
	live := 0
	for _, m := range a.Machines {
		if m.View.State != "destroyed" {
			live++
		}
	}
	return map[string]any{
		"id": a.ID, "internal_numeric_id": a.Number, "name": a.Name, "network": "default", "status": a.Status,
		"machine_count": live, "volume_count": len(a.Volumes), "app_role": "", "cname_target": a.ID + "." + a.Name + ".fly.dev",
		"organization": map[string]any{"name": a.Org, "slug": a.Org, "internal_numeric_id": 1},
	}
}

func (s *Sim) listApps(c *call) (any, error) {
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(s.state.Apps)) {
		if a := s.state.Apps[name]; c.queryParam("org_slug") == "" || c.queryParam("org_slug") == a.Org {
			list = append(list, a.apiView())
		}
	}
	return map[string]any{"apps": list, "total_apps": len(list)}, nil
}

func (s *Sim) createApp(c *call) (any, error) {
	var in struct {
		Name string `json:"name"`
		Org  string `json:"org_slug"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	if in.Name == "" {
		return nil, newAPIError(http.StatusUnprocessableEntity, "name can't be blank")
	}
	if s.state.Apps[in.Name] != nil {
		return nil, &apiError{status: http.StatusUnprocessableEntity, code: "name_taken", text: "Name has already been taken"}
	}
	c.status = http.StatusCreated
	return s.newApp(in.Name, in.Org).apiView(), nil
}

func (s *Sim) getApp(c *call) (any, error) { return c.app.apiView(), nil }

func (s *Sim) deleteApp(c *call) (any, error) {
	s.removeApp(c.app)
	c.status = http.StatusAccepted
	return okReply(), nil
}

func (s *Sim) removeApp(a *app) {
	for _, m := range a.sortedMachines() {
		if m.View.State != "destroyed" {
			s.beginDestroy(m)
		}
	}
	delete(s.state.Apps, a.Name)
	s.unsaved = true
}

// A secretView is a secret as the API returns it.
type secretView struct {
	Name      string    `json:"name"`
	Digest    string    `json:"digest"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func (a *app) secretViews() []secretView {
	out := []secretView{}
	for _, name := range slices.Sorted(maps.Keys(a.Secrets)) {
		v := a.Secrets[name]
		sum := sha256.Sum256([]byte(v.Value))
		out = append(out, secretView{name, hex.EncodeToString(sum[:8]), v.CreatedAt, v.UpdatedAt})
	}
	return out
}

// setSecrets sets or, for nil, deletes secrets. Machines get them with their
// next update. Deleting a missing secret changes nothing: flyctl reads the
// version that way.
func (s *Sim) setSecrets(a *app, values map[string]*string) {
	changed := false
	for name, v := range values {
		if v == nil {
			_, there := a.Secrets[name]
			changed = changed || there
			delete(a.Secrets, name)
			continue
		}
		changed = true
		created := a.Secrets[name].CreatedAt
		if created.IsZero() {
			created = s.now()
		}
		a.Secrets[name] = secret{*v, created, s.now()}
	}
	if changed {
		a.SecretsVersion++
		s.unsaved = true
	}
}

func (s *Sim) listSecrets(c *call) (any, error) {
	return map[string]any{"secrets": c.app.secretViews()}, nil
}

func (s *Sim) getSecret(c *call) (any, error) {
	for _, v := range c.app.secretViews() {
		if v.Name == c.r.PathValue("name") {
			return v, nil
		}
	}
	return nil, newAPIError(http.StatusNotFound, "secret not found")
}

func (s *Sim) changeSecrets(c *call) (any, error) {
	var in struct {
		Values map[string]*string `json:"values"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	s.setSecrets(c.app, in.Values)
	return map[string]any{"secrets": c.app.secretViews(), "version": c.app.SecretsVersion}, nil
}

func (s *Sim) changeSecret(c *call) (any, error) {
	var in struct {
		Value *string `json:"value"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	if c.r.Method == http.MethodDelete {
		in.Value = nil
	}
	s.setSecrets(c.app, map[string]*string{c.r.PathValue("name"): in.Value})
	return map[string]any{"name": c.r.PathValue("name"), "version": c.app.SecretsVersion}, nil
}

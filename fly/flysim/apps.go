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

// newApp makes an app; the lock must be held.
func (s *Sim) newApp(name, org string) *app {
	a := &app{ID: s.newID("app", 12), Number: len(s.world.Apps) + 1, Name: name, Org: cmp.Or(org, "personal"), Status: "pending",
		CreatedAt: s.now(), Machines: map[string]*machine{}, Secrets: map[string]secret{}}
	s.world.Apps[name] = a
	s.dirty = true
	return a
}

func (a *app) flaps() any {
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
	for _, name := range slices.Sorted(maps.Keys(s.world.Apps)) {
		if a := s.world.Apps[name]; c.query("org_slug") == "" || c.query("org_slug") == a.Org {
			list = append(list, a.flaps())
		}
	}
	return map[string]any{"apps": list, "total_apps": len(list)}, nil
}

func (s *Sim) createApp(c *call) (any, error) {
	var in struct {
		Name string `json:"name"`
		Org  string `json:"org_slug"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.Name == "" {
		return nil, refuse(http.StatusUnprocessableEntity, "name can't be blank")
	}
	if s.world.Apps[in.Name] != nil {
		return nil, &refusal{status: http.StatusUnprocessableEntity, code: "name_taken", text: "Name has already been taken"}
	}
	c.status = http.StatusCreated
	return s.newApp(in.Name, in.Org).flaps(), nil
}

func (s *Sim) getApp(c *call) (any, error) { return c.app.flaps(), nil }

func (s *Sim) deleteApp(c *call) (any, error) {
	s.removeApp(c.app)
	c.status = http.StatusAccepted
	return done(), nil
}

func (s *Sim) removeApp(a *app) {
	for _, m := range a.sorted() {
		if m.View.State != "destroyed" {
			s.destroy(m)
		}
	}
	delete(s.world.Apps, a.Name)
	s.dirty = true
}

// A shownSecret is what Fly shows of a secret.
type shownSecret struct {
	Name      string    `json:"name"`
	Digest    string    `json:"digest"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func (a *app) shownSecrets() []shownSecret {
	out := []shownSecret{}
	for _, name := range slices.Sorted(maps.Keys(a.Secrets)) {
		v := a.Secrets[name]
		sum := sha256.Sum256([]byte(v.Value))
		out = append(out, shownSecret{name, hex.EncodeToString(sum[:8]), v.CreatedAt, v.UpdatedAt})
	}
	return out
}

// setSecrets changes secrets; nil deletes. Machines see it at their next update.
// Deleting what is not there changes nothing: flyctl asks for the version so.
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
		s.dirty = true
	}
}

func (s *Sim) listSecrets(c *call) (any, error) {
	return map[string]any{"secrets": c.app.shownSecrets()}, nil
}

func (s *Sim) getSecret(c *call) (any, error) {
	for _, v := range c.app.shownSecrets() {
		if v.Name == c.r.PathValue("name") {
			return v, nil
		}
	}
	return nil, refuse(http.StatusNotFound, "secret not found")
}

func (s *Sim) changeSecrets(c *call) (any, error) {
	var in struct {
		Values map[string]*string `json:"values"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	s.setSecrets(c.app, in.Values)
	return map[string]any{"secrets": c.app.shownSecrets(), "version": c.app.SecretsVersion}, nil
}

func (s *Sim) changeSecret(c *call) (any, error) {
	var in struct {
		Value *string `json:"value"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if c.r.Method == http.MethodDelete {
		in.Value = nil
	}
	s.setSecrets(c.app, map[string]*string{c.r.PathValue("name"): in.Value})
	return map[string]any{"name": c.r.PathValue("name"), "version": c.app.SecretsVersion}, nil
}

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
	for _, m := range c.app.sorted() {
		if m.View.State != "destroyed" {
			s.destroy(m)
		}
	}
	delete(s.world.Apps, c.app.Name)
	s.dirty = true
	c.status = http.StatusAccepted
	return done(), nil
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
func (s *Sim) setSecrets(a *app, values map[string]*string) {
	for name, v := range values {
		if v == nil {
			delete(a.Secrets, name)
			continue
		}
		created := a.Secrets[name].CreatedAt
		if created.IsZero() {
			created = s.now()
		}
		a.Secrets[name] = secret{*v, created, s.now()}
	}
	a.SecretsVersion++
	s.dirty = true
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

// An ipAddress is a public or private address of an app.
type ipAddress struct {
	IP        string    `json:"ip"`
	Region    string    `json:"region"`
	Service   string    `json:"service_name"`
	Shared    bool      `json:"shared"`
	CreatedAt time.Time `json:"created_at"`
	Kind      string    `json:"type,omitempty"`
}

func (s *Sim) listIPs(c *call) (any, error) {
	return map[string]any{"ips": append([]ipAddress{}, c.app.IPs...)}, nil
}

func (s *Sim) assignIP(c *call) (any, error) {
	var in struct {
		Type   string `json:"type"`
		Region string `json:"region"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	ip := ipAddress{Region: in.Region, CreatedAt: s.now(), Kind: in.Type}
	switch in.Type {
	case "shared_v4":
		ip.IP, ip.Shared = "66.241.124.1", true
	case "v4":
		ip.IP = "137.66.0." + cmp.Or(s.newID("v4", 2), "1")
	case "private_v6":
		ip.IP = "fdaa:0:1:0:1::" + s.newID("v6", 4)
	case "v6":
		ip.IP = "2a09:8280:1::" + s.newID("v6", 4)
	default:
		return nil, refuse(http.StatusBadRequest, "invalid type %q of address", in.Type)
	}
	c.app.IPs = append(c.app.IPs, ip)
	s.dirty = true
	return ip, nil
}

func (s *Sim) dropIP(c *call) (any, error) {
	n := len(c.app.IPs)
	c.app.IPs = slices.DeleteFunc(c.app.IPs, func(ip ipAddress) bool { return ip.IP == c.r.PathValue("ip") })
	if len(c.app.IPs) == n {
		return nil, refuse(http.StatusNotFound, "address not found")
	}
	s.dirty = true
	return done(), nil
}

func (s *Sim) regions(*call) (any, error) {
	list := []any{}
	for _, r := range [][2]string{{"ams", "Amsterdam"}, {"cdg", "Paris"}, {"fra", "Frankfurt"}, {"iad", "Ashburn"}, {"lhr", "London"},
		{"nrt", "Tokyo"}, {"ord", "Chicago"}, {"sin", "Singapore"}, {"sjc", "San Jose"}, {"syd", "Sydney"}} {
		list = append(list, map[string]any{"code": r[0], "name": r[1], "gateway_available": true, "requires_paid_plan": false})
	}
	return map[string]any{"Regions": list, "Nearest": "fra"}, nil
}

func (s *Sim) placements(c *call) (any, error) {
	var in struct {
		Region string `json:"region"`
		Count  int    `json:"count"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	n := cmp.Or(in.Count, 100)
	return map[string]any{"Regions": []any{map[string]any{"Region": cmp.Or(in.Region, "fra"), "Count": n, "Concurrency": n}}}, nil
}

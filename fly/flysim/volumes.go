package flysim

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/microbima/release/internal/rawjson"
)

// A volume is a volume of an app. Nothing is written to it.
type volume struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	State      string    `json:"state"`
	SizeGB     int       `json:"size_gb"`
	Region     string    `json:"region"`
	Zone       string    `json:"zone"`
	Encrypted  bool      `json:"encrypted"`
	Machine    *string   `json:"attached_machine_id"`
	Alloc      *string   `json:"attached_alloc_id"`
	CreatedAt  time.Time `json:"created_at"`
	HostStatus string    `json:"host_status"`
	Retention  int       `json:"snapshot_retention"`
	AutoBackup bool      `json:"auto_backup_enabled"`
}

func (a *app) volumeByID(id string) *volume {
	i := slices.IndexFunc(a.Volumes, func(v *volume) bool { return v.ID == id })
	if i < 0 {
		return nil
	}
	return a.Volumes[i]
}

// attachVolumes attaches the volumes that m mounts: all of them or, with an
// error, none.
func (s *Sim) attachVolumes(a *app, m *machine) error {
	var taken []*volume
	for _, id := range m.config().volumeIDs() {
		v := a.volumeByID(id)
		switch {
		case v == nil:
			return newAPIError(http.StatusNotFound, "volume %s not found", id)
		case v.Machine != nil && *v.Machine != m.View.ID:
			return newAPIError(http.StatusPreconditionFailed, "volume %s is attached to machine %s", v.ID, *v.Machine)
		case v.Region != m.View.Region:
			return newAPIError(http.StatusPreconditionFailed, "volume %s is in region %s, not in %s", v.ID, v.Region, m.View.Region)
		}
		taken = append(taken, v)
	}
	for _, v := range taken {
		id := m.View.ID
		v.Machine, v.HostStatus = &id, m.View.HostStatus
	}
	return nil
}

// describeMounts returns a config with the name, size and encryption of its
// volumes, as the API returns it. A config without volumes is returned
// unchanged.
func (a *app) describeMounts(doc json.RawMessage) json.RawMessage {
	var top map[string]json.RawMessage
	var mounts []map[string]any
	if json.Unmarshal(doc, &top) != nil || json.Unmarshal(top["mounts"], &mounts) != nil {
		return doc // it mounts nothing
	}
	known := false
	for _, m := range mounts {
		id, _ := m["volume"].(string)
		if v := a.volumeByID(id); v != nil {
			m["name"], m["size_gb"], m["encrypted"] = v.Name, v.SizeGB, v.Encrypted
			known = true
		}
	}
	if !known {
		return doc
	}
	top["mounts"] = rawjson.MustMarshal(mounts)
	return rawjson.MustMarshal(top)
}

// volumeIDs returns the IDs of the volumes that a machine of that config
// mounts.
func (c config) volumeIDs() []string {
	var ids []string
	for _, m := range c.Mounts {
		if m.Volume != "" {
			ids = append(ids, m.Volume)
		}
	}
	return ids
}

// keepsVolumes reports whether an update mounts the same volumes as before.
func keepsVolumes(before config, after json.RawMessage) bool {
	var c config
	_ = json.Unmarshal(after, &c) // was validated when it was accepted
	x, y := before.volumeIDs(), c.volumeIDs()
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

func (s *Sim) listVolumes(c *call) (any, error) {
	return append([]*volume{}, c.app.Volumes...), nil
}

func (s *Sim) createVolume(c *call) (any, error) {
	in := volume{Encrypted: true, Retention: 5, AutoBackup: true}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	if in.Name == "" {
		return nil, newAPIError(http.StatusUnprocessableEntity, "name can't be blank")
	}
	v := &in
	v.ID, v.State, v.HostStatus, v.CreatedAt = "vol_"+s.newID("volume", 16), "created", "ok", s.now()
	v.Machine, v.Alloc = nil, nil
	v.SizeGB, v.Region, v.Zone = cmp.Or(v.SizeGB, 3), cmp.Or(v.Region, "fra"), s.newID("zone", 4)
	c.app.Volumes = append(c.app.Volumes, v)
	s.unsaved = true
	return v, nil
}

func (s *Sim) findVolume(c *call) (*volume, error) {
	if v := c.app.volumeByID(c.r.PathValue("volume")); v != nil {
		return v, nil
	}
	return nil, newAPIError(http.StatusNotFound, "volume not found")
}

func (s *Sim) getVolume(c *call) (any, error) {
	v, err := s.findVolume(c)
	return v, err
}

func (s *Sim) changeVolume(c *call) (any, error) {
	v, err := s.findVolume(c)
	if err != nil {
		return nil, err
	}
	var in struct {
		SizeGB     *int  `json:"size_gb"`
		Retention  *int  `json:"snapshot_retention"`
		AutoBackup *bool `json:"auto_backup_enabled"`
	}
	if err := c.decodeBody(&in); err != nil {
		return nil, err
	}
	s.unsaved = true
	if in.SizeGB != nil {
		if *in.SizeGB < v.SizeGB {
			return nil, newAPIError(http.StatusUnprocessableEntity, "a volume can't shrink")
		}
		v.SizeGB = *in.SizeGB
		return map[string]any{"volume": v, "needs_restart": v.Machine != nil}, nil
	}
	if in.Retention != nil {
		v.Retention = *in.Retention
	}
	if in.AutoBackup != nil {
		v.AutoBackup = *in.AutoBackup
	}
	return v, nil
}

func (s *Sim) deleteVolume(c *call) (any, error) {
	v, err := s.findVolume(c)
	if err != nil {
		return nil, err
	}
	if v.Machine != nil {
		return nil, newAPIError(http.StatusPreconditionFailed, "volume is attached to machine %s", *v.Machine)
	}
	c.app.Volumes = slices.DeleteFunc(c.app.Volumes, func(x *volume) bool { return x == v })
	s.unsaved = true
	v.State = "destroying"
	return v, nil
}

func (s *Sim) listSnapshots(c *call) (any, error) {
	_, err := s.findVolume(c)
	return []any{}, err
}

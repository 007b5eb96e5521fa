package fly_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/microbima/release/fly"
)

// appConformance has the tests of everything about an app except its machines.
var appConformance = map[string]func(*testing.T, fixture){
	"a lease is recognized by its description": func(t *testing.T, f fixture) {
		m := f.create(t, fly.Create{SkipLaunch: true})
		f.wait(t, m.ID, "stopped", m.InstanceID)
		_, err := f.ReadLease(t.Context(), f.app, m.ID)
		wantError(t, err, fly.ErrNotFound)
		taken, err := f.TakeLease(t.Context(), f.app, m.ID, "rollout 7", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.TakeLease(t.Context(), f.app, m.ID, "rollout 7", time.Minute)
		wantError(t, err, fly.ErrConflict)
		if _, err := f.Lease(t.Context(), f.app, m.ID, taken.Nonce, 2*time.Minute); err != nil {
			t.Error("refresh:", err)
		}
		read, err := f.ReadLease(t.Context(), f.app, m.ID)
		if err != nil || read.Nonce != taken.Nonce || read.Description != "rollout 7" || read.Owner == "" || read.Version != m.InstanceID || !read.Expires.After(taken.Expires) {
			t.Errorf("read %+v, %v; taken %+v", read, err, taken)
		}
		if err := f.ReleaseLease(t.Context(), f.app, m.ID, read.Nonce); err != nil {
			t.Error(err)
		}
		_, err = f.ReadLease(t.Context(), f.app, m.ID)
		wantError(t, err, fly.ErrNotFound)
	},
	"the version of the secrets is read without a change of them": func(t *testing.T, f fixture) {
		before, err := f.Secrets(t.Context(), f.app)
		if err != nil {
			t.Fatal(err)
		}
		var last uint64
		for range 2 {
			version, err := f.SecretsVersion(t.Context(), f.app)
			if err != nil || version == 0 && len(before) > 0 || version < last {
				t.Errorf("version %d after %d, %v", version, last, err)
			}
			last = version
		}
		after, err := f.Secrets(t.Context(), f.app)
		if err != nil || !slices.Equal(before, after) {
			t.Errorf("secrets were %v and are %v, %v", before, after, err)
		}
		m := f.create(t, fly.Create{MinSecretsVersion: last})
		f.wait(t, m.ID, "started", m.InstanceID)
	},
	"a volume is free except while a machine mounts it": func(t *testing.T, f fixture) {
		created := f.volume(t, fly.NewVolume{
			Name: "data", Region: "fra", SizeGB: 1, Retention: ptr(7), Snapshots: ptr(false),
			Guest: json.RawMessage(`{"cpu_kind":"shared","cpus":1,"memory_mb":256}`), Image: f.image,
		})
		if created.Name != "data" || created.Region != "fra" || created.SizeGB != 1 || !created.Encrypted || !f.listed(t, created.ID).Free() {
			t.Errorf("created %+v, listed %+v", created, f.listed(t, created.ID))
		}
		config := bytes.Replace(f.config("one"), []byte("{"), []byte(`{"mounts":[{"volume":"`+created.ID+`","path":"/data"}],`), 1)
		m, err := f.Create(t.Context(), f.app, fly.Create{Region: "fra", Config: config})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.destroy(t, m) })
		f.wait(t, m.ID, "started", m.InstanceID)
		if v := f.listed(t, created.ID); v.Free() || v.AttachedMachine != m.ID {
			t.Errorf("while %s mounts it: %+v", m.ID, v)
		}
		wantError(t, f.DestroyVolume(t.Context(), f.app, created.ID), fly.ErrPrecondition)
		f.destroy(t, m)
		if err := f.Wait(t.Context(), f.app, m.ID, fly.Wait{State: "destroyed", Version: m.InstanceID, Timeout: time.Minute}); err != nil && !errors.Is(err, fly.ErrNotFound) {
			t.Error(err)
		}
		if v := f.listed(t, created.ID); !v.Free() {
			t.Errorf("after %s was destroyed: %+v", m.ID, v)
		}
		if err := f.DestroyVolume(t.Context(), f.app, created.ID); err != nil {
			t.Error(err)
		}
	},
	"an unknown volume is not found": func(t *testing.T, f fixture) {
		wantError(t, f.DestroyVolume(t.Context(), f.app, "vol_000000000000000a"), fly.ErrNotFound)
	},
	"addresses are assigned, listed and released": func(t *testing.T, f fixture) {
		for _, kind := range []string{"v6", "shared_v4", "private_v6"} { // a v4 costs money
			ip, err := f.AssignAddress(t.Context(), f.app, kind)
			if err != nil {
				t.Fatal(kind, err)
			}
			kinds := func() []string {
				all, err := f.Addresses(t.Context(), f.app)
				if err != nil {
					t.Error(err)
				}
				var out []string
				for _, have := range all {
					if have.IP == ip.IP {
						out = append(out, have.Kind())
					}
				}
				return out
			}
			if got := kinds(); !slices.Equal(got, []string{kind}) || ip.Kind() != kind {
				t.Errorf("requested %s, got %+v of kind %q, listed as %q", kind, ip, ip.Kind(), got)
			}
			if err := f.ReleaseAddress(t.Context(), f.app, ip.IP); err != nil {
				t.Error(err)
			}
			if got := kinds(); got != nil {
				t.Errorf("%s was released and is still listed as %q", ip.IP, got)
			}
			wantError(t, f.ReleaseAddress(t.Context(), f.app, ip.IP), fly.ErrNotFound)
		}
		_, err := f.AssignAddress(t.Context(), f.app, "v5")
		wantError(t, err, fly.ErrInvalid)
	},
}

func ptr[T any](v T) *T { return &v }

// volume creates a volume and destroys it when the test ends.
func (f fixture) volume(t *testing.T, in fly.NewVolume) fly.Volume {
	t.Helper()
	v, err := f.CreateVolume(t.Context(), f.app, in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := f.DestroyVolume(ctx, f.app, v.ID); err != nil && !errors.Is(err, fly.ErrNotFound) {
			t.Error(err)
		}
	})
	return v
}

// listed returns a volume as the list of volumes has it.
func (f fixture) listed(t *testing.T, id string) fly.Volume {
	t.Helper()
	all, err := f.Volumes(t.Context(), f.app)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(v fly.Volume) bool { return v.ID == id })
	if i < 0 {
		t.Fatalf("volume %s is not among %+v", id, all)
	}
	return all[i]
}

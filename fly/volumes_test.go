package fly_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/microbima/release/fly"
)

// TestVolume_Free: a new machine gets no volume that is attached, unreachable
// or about to be removed.
func TestVolume_Free(t *testing.T) {
	for body, want := range map[string]bool{
		`{"id":"v","state":"created","host_status":"ok","attached_machine_id":null,"attached_alloc_id":null}`: true,
		`{"id":"v","state":"created","host_status":"ok","attached_machine_id":"148e"}`:                        false,
		`{"id":"v","state":"created","host_status":"ok","attached_alloc_id":"9f"}`:                            false,
		`{"id":"v","state":"created","host_status":"unreachable"}`:                                            false,
		`{"id":"v","state":"created"}`:                               false,
		`{"id":"v","state":"waiting_for_detach","host_status":"ok"}`: false,
		`{"id":"v","state":"pending_destroy","host_status":"ok"}`:    false,
	} {
		c := newTestClient(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "["+body+"]") })
		all, err := c.Volumes(t.Context(), "shop")
		if err != nil || len(all) != 1 || all[0].Free() != want {
			t.Errorf("%s: free is not %t: %+v, %v", body, want, all, err)
		}
	}
}

// TestCreateVolume_EncryptedByDefault: an unencrypted volume has to be
// requested, and unset fields are not sent.
func TestCreateVolume_EncryptedByDefault(t *testing.T) {
	var asked string
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		asked = string(b)
		fmt.Fprint(w, `{"id":"vol_1"}`)
	})
	if _, err := c.CreateVolume(t.Context(), "shop", fly.NewVolume{Name: "data"}); err != nil || asked != `{"name":"data"}` {
		t.Errorf("sent %s, %v", asked, err)
	}
	_, err := c.CreateVolume(t.Context(), "shop", fly.NewVolume{Name: "data", Guest: json.RawMessage(`{"cpus":`)})
	if wantError(t, err, fly.ErrInvalid); errors.Is(err, fly.ErrUnknownOutcome) {
		t.Errorf("nothing was sent, but the outcome is unknown: %v", err)
	}
}

package flysim_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

// request makes one call and returns the status and the decoded response.
func request(t *testing.T, sim *flysim.Sim, method, path, body string) (int, any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://fly"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := sim.Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if len(doc) > 0 && json.Unmarshal(doc, &out) != nil {
		t.Fatalf("%s %s: %s", method, path, doc)
	}
	return resp.StatusCode, out
}

// valueAt returns the value at a path in a response; a number is an index.
func valueAt(v any, keys ...any) any {
	for _, k := range keys {
		switch x := v.(type) {
		case map[string]any:
			name, _ := k.(string)
			v = x[name]
		case []any:
			i, ok := k.(int)
			if !ok || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func newSim(t *testing.T, apps ...string) *flysim.Sim {
	sim := new(flysim.Sim)
	t.Cleanup(sim.Close)
	for _, name := range apps {
		sim.CreateApp(name, "")
	}
	return sim
}

func TestMachines_DestroyedStayReadable(t *testing.T) {
	sim := newSim(t, "shop")
	sim.Put("shop", fly.Machine{ID: "m1", Config: json.RawMessage(checked)}, fly.Machine{ID: "m2", Config: json.RawMessage(checked)})
	if code, out := request(t, sim, "DELETE", "/v1/apps/shop/machines/m1?kill=true", ""); code != 200 {
		t.Fatal(code, out)
	}
	if code, out := request(t, sim, "GET", "/v1/apps/shop/machines/m1", ""); code != 200 || valueAt(out, "state") != "destroyed" || valueAt(out, "config", "image") != "shop:1" {
		t.Errorf("read %d %v", code, out)
	}
	_, without := request(t, sim, "GET", "/v1/apps/shop/machines", "")
	_, with := request(t, sim, "GET", "/v1/apps/shop/machines?include_deleted=true", "")
	if len(without.([]any)) != 1 || len(with.([]any)) != 2 || valueAt(with, 0, "state") != "destroyed" {
		t.Errorf("listed %v, with destroyed ones %v", without, with)
	}
}

func TestLease_OwnerAndDescription(t *testing.T) {
	sim := newSim(t, "shop")
	sim.Put("shop", fly.Machine{ID: "m1", InstanceID: "01V", Config: json.RawMessage(checked)})
	const lease = "/v1/apps/shop/machines/m1/lease"
	if code, out := request(t, sim, "POST", lease+"?ttl=20", `{"description":"release shop/1"}`); code != 201 {
		t.Fatal(code, out)
	}
	code, out := request(t, sim, "GET", lease, "")
	expires, _ := valueAt(out, "data", "expires_at").(float64)
	left := time.Until(time.Unix(int64(expires), 0))
	if code != 200 || valueAt(out, "data", "nonce") == "" || valueAt(out, "data", "owner") == "" || valueAt(out, "data", "version") != "01V" ||
		valueAt(out, "data", "description") != "release shop/1" || left <= 0 || left > 20*time.Second {
		t.Errorf("%d %v, %s left", code, out, left)
	}
}

func TestSecrets_Versions(t *testing.T) {
	sim := newSim(t, "shop")
	set := func(values string) any {
		t.Helper()
		code, out := request(t, sim, "POST", "/v1/apps/shop/secrets", `{"values":`+values+`}`)
		if code != 200 {
			t.Fatal(code, out)
		}
		return valueAt(out, "version")
	}
	first := set(`{"KEY":"1","OTHER":"x"}`)
	_, before := request(t, sim, "GET", "/v1/apps/shop/secrets", "")
	if v := set(`{"MISSING":null}`); v != first {
		t.Errorf("deleting a missing secret changed the version to %v from %v", v, first)
	}
	second := set(`{"KEY":"2"}`)
	if second.(float64) != first.(float64)+1 {
		t.Errorf("version %v after %v", second, first)
	}
	_, after := request(t, sim, "GET", "/v1/apps/shop/secrets", "")
	key := func(list any, i int, field string) any { return valueAt(list, "secrets", i, field) }
	if key(before, 0, "updated_at") == key(after, 0, "updated_at") || key(before, 0, "digest") == key(after, 0, "digest") {
		t.Errorf("KEY was %v and is %v", valueAt(before, "secrets", 0), valueAt(after, "secrets", 0))
	}
	if key(before, 1, "updated_at") != key(after, 1, "updated_at") || key(before, 0, "created_at") != key(after, 0, "created_at") {
		t.Errorf("before %v, after %v", before, after)
	}
	create := func(version string) int {
		code, _ := request(t, sim, "POST", "/v1/apps/shop/machines", `{"config":{"image":"shop:1"},"min_secrets_version":`+version+`}`)
		return code
	}
	if got := [2]int{create("3"), create("2")}; got != [2]int{412, 200} {
		t.Errorf("statuses for a future and the current secrets version: %v", got)
	}
}

func TestVolumes(t *testing.T) {
	sim := newSim(t, "shop")
	volume := func(region string) string {
		code, out := request(t, sim, "POST", "/v1/apps/shop/volumes", `{"name":"data","region":"`+region+`","size_gb":2}`)
		if code != 200 || valueAt(out, "size_gb") != 2.0 || valueAt(out, "attached_machine_id") != nil {
			t.Fatal(code, out)
		}
		return valueAt(out, "id").(string)
	}
	attached := func(id string) any {
		_, out := request(t, sim, "GET", "/v1/apps/shop/volumes/"+id, "")
		return valueAt(out, "attached_machine_id")
	}
	mounting := func(ids ...string) string {
		var mounts []string
		for _, id := range ids {
			mounts = append(mounts, `{"volume":"`+id+`","path":"/`+id+`"}`)
		}
		return `{"region":"fra","config":{"image":"shop:1","mounts":[` + strings.Join(mounts, ",") + `]}}`
	}
	here, other, there := volume("fra"), volume("fra"), volume("ord")
	code, m := request(t, sim, "POST", "/v1/apps/shop/machines", mounting(here))
	if code != 200 || attached(here) != valueAt(m, "id") {
		t.Fatalf("%d %v, attached to %v", code, m, attached(here))
	}
	for name, id := range map[string]string{"attached elsewhere": here, "in another region": there} {
		if code, out := request(t, sim, "POST", "/v1/apps/shop/machines", mounting(other, id)); code != 412 || attached(other) != nil {
			t.Errorf("%s: %d %v; the free one is attached to %v", name, code, out, attached(other))
		}
	}
	path := "/v1/apps/shop/machines/" + valueAt(m, "id").(string)
	if code, out := request(t, sim, "POST", path, mounting(other)); code != 400 {
		t.Errorf("another volume in an update: %d %v", code, out)
	}
	if code, out := request(t, sim, "DELETE", "/v1/apps/shop/volumes/"+here, ""); code != 412 {
		t.Errorf("an attached volume is deleted: %d %v", code, out)
	}
	request(t, sim, "DELETE", path+"?kill=true", "")
	if attached(here) != nil {
		t.Errorf("attached to %v after its machine was destroyed", attached(here))
	}
	request(t, sim, "DELETE", "/v1/apps/shop/volumes/"+here, "")
	if _, out := request(t, sim, "GET", "/v1/apps/shop/volumes", ""); len(out.([]any)) != 2 {
		t.Errorf("volumes %v", out)
	}
}

func TestAddresses(t *testing.T) {
	sim := newSim(t, "shop")
	for _, kind := range []string{"shared_v4", "v6"} {
		if code, out := request(t, sim, "POST", "/v1/apps/shop/ip_assignments", `{"type":"`+kind+`"}`); code != 200 || valueAt(out, "ip") == nil || valueAt(out, "shared") != (kind == "shared_v4") {
			t.Errorf("%s: %d %v", kind, code, out)
		}
	}
	_, out := request(t, sim, "GET", "/v1/apps/shop/ip_assignments", "")
	if len(valueAt(out, "ips").([]any)) != 2 {
		t.Fatalf("addresses %v", out)
	}
	request(t, sim, "DELETE", "/v1/apps/shop/ip_assignments/"+valueAt(out, "ips", 0, "ip").(string), "")
	if _, left := request(t, sim, "GET", "/v1/apps/shop/ip_assignments", ""); len(valueAt(left, "ips").([]any)) != 1 || valueAt(left, "ips", 0, "ip") != valueAt(out, "ips", 1, "ip") {
		t.Errorf("left %v of %v", left, out)
	}
}

// command is the config of a machine that runs once.
const command = `{"image":"shop:1","auto_destroy":%s,"env":{"RELEASE_COMMAND":"1"},"restart":{"policy":"no"},"metadata":{"fly_process_group":"fly_app_release_command"}}`

func TestStop_CommandExitIsRequested(t *testing.T) {
	for destroyed, state := range map[string]string{"true": "destroyed", "false": "stopped"} {
		inBubble(t, &flysim.Sim{Latency: flysim.Latency{Command: time.Hour}}, func(t *testing.T, c *fly.Client) {
			m, err := c.Create(t.Context(), "shop", fly.Create{Config: json.RawMessage(strings.Replace(command, "%s", destroyed, 1))})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if err := c.Stop(t.Context(), "shop", m.ID, ""); err != nil {
				t.Fatal(err)
			}
			m, err = c.Machine(t.Context(), "shop", m.ID)
			if x, ok := m.LastExit(); err != nil || m.State != state || !ok || !x.Requested {
				t.Errorf("%v, %s, want %s; exit %+v %v", err, m.State, state, x, ok)
			}
		})
	}
}

func TestAppStatus_DeployedByServiceMachine(t *testing.T) {
	sim := newSim(t, "shop")
	status := func() any {
		_, out := request(t, sim, "GET", "/v1/apps/shop", "")
		return valueAt(out, "status")
	}
	request(t, sim, "POST", "/v1/apps/shop/machines", `{"config":`+strings.Replace(command, "%s", "false", 1)+`}`)
	if status() != "pending" {
		t.Errorf("%v after a release command", status())
	}
	request(t, sim, "POST", "/v1/apps/shop/machines", `{"config":{"image":"shop:1"}}`)
	if status() != "deployed" {
		t.Errorf("%v after a machine started", status())
	}
}

func TestStart_StoppingMachine(t *testing.T) {
	inBubble(t, &flysim.Sim{Latency: flyLatencies}, func(t *testing.T, c *fly.Client) {
		if err := c.Stop(t.Context(), "shop", "m1", ""); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context(), "shop", "m1", ""); !errors.Is(err, fly.ErrPrecondition) {
			t.Errorf("start while %s: %v", readMachine(t, c).State, err)
		}
		time.Sleep(2 * time.Second)
		if err := c.Start(t.Context(), "shop", "m1", ""); err != nil {
			t.Error(err)
		}
	})
}

func TestProxy_AutostopAndAutostart(t *testing.T) {
	for autostop, state := range map[string]string{"true": "stopped", `"stop"`: "stopped", `"suspend"`: "suspended", "false": "started", `"off"`: "started"} {
		sim := newSim(t)
		sim.Put("shop", fly.Machine{ID: "m1", Config: json.RawMessage(`{"image":"shop:1","services":[{"internal_port":80,"autostop":` + autostop + `}]}`)})
		sim.Idle("shop", "m1")
		m := sim.Machines("shop")[0]
		if x, ok := m.LastExit(); m.State != state || ok != (state == "stopped") || ok && !x.Requested {
			t.Errorf("autostop %s: %s, exit %+v %v", autostop, m.State, x, ok)
		}
		sim.Wake("shop", "m1")
		if m := sim.Machines("shop")[0]; m.State != "started" {
			t.Errorf("woken: %s", m.State)
		}
	}
	sim := newSim(t)
	sim.Put("shop", fly.Machine{ID: "m1", Config: json.RawMessage(checked), State: "stopped", Cordoned: true})
	sim.Wake("shop", "m1")
	if m := sim.Machines("shop")[0]; m.State != "stopped" {
		t.Errorf("a cordoned machine is %s, want stopped", m.State)
	}
}

func TestFaults_Platform(t *testing.T) {
	for name, test := range map[string]struct {
		fault flysim.Fault
		kind  error
		text  string
	}{
		"the image does not exist":     {flysim.Fault{Route: updateRoute, Effect: flysim.ImageGone}, fly.ErrInvalid, "manifest unknown"},
		"the host accepts no changes":  {flysim.Fault{Route: updateRoute, Effect: flysim.HostClosed}, fly.ErrNoCapacity, "deploys to this host are temporarily disabled"},
		"releases are forbidden":       {flysim.Fault{Route: "POST /api/v1/releases", App: "shop", Status: 403}, fly.ErrUnauthorized, ""},
		"releases are down":            {flysim.Fault{Route: "POST /api/v1/releases", App: "shop", Status: 503}, fly.ErrUnavailable, ""},
		"a release can't be completed": {flysim.Fault{Route: "PATCH /api/v1/releases/{release}", App: "shop", Status: 500}, fly.ErrUnavailable, ""},
		"releases of another app fail": {flysim.Fault{Route: "POST /api/v1/releases", App: "other", Status: 500}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sim := new(flysim.Sim)
			inBubble(t, sim, func(t *testing.T, c *fly.Client) {
				sim.Inject(test.fault)
				_, err := updateMachine(t, c)
				if strings.Contains(test.fault.Route, "releases") {
					var r fly.FlyRelease
					if r, err = c.CreateRelease(t.Context(), fly.NewRelease{App: "shop", Strategy: "rolling"}); err == nil {
						err = c.UpdateRelease(t.Context(), r.ID, "complete", "")
					}
				}
				if !errors.Is(err, test.kind) || err != nil && !strings.Contains(err.Error(), test.text) {
					t.Errorf("%v, want: %v", err, test.kind)
				}
				if m := readMachine(t, c); strings.Contains(test.fault.Route, "machines") && m.ImageRef.Tag != "1" {
					t.Errorf("the update was refused, but it runs %s", m.ImageRef)
				}
			})
		})
	}
}

func TestLose_HidesConfig(t *testing.T) {
	sim := newSim(t, "shop")
	_, v := request(t, sim, "POST", "/v1/apps/shop/volumes", `{"name":"data","region":"fra"}`)
	id := valueAt(v, "id").(string)
	sim.Put("shop", fly.Machine{ID: "m1", Config: json.RawMessage(`{"image":"shop:1","env":{"A":"1"},"metadata":{"who":"me"},"mounts":[{"volume":"` + id + `"}]}`)})
	sim.Lose("shop", "m1")
	_, m := request(t, sim, "GET", "/v1/apps/shop/machines/m1", "")
	if valueAt(m, "config") != nil || valueAt(m, "host_status") != "unreachable" || valueAt(m, "incomplete_config", "metadata", "who") != "me" || valueAt(m, "incomplete_config", "env") != nil {
		t.Errorf("machine %v", m)
	}
	if _, v := request(t, sim, "GET", "/v1/apps/shop/volumes/"+id, ""); valueAt(v, "host_status") != "unreachable" {
		t.Errorf("its volume %v", v)
	}
	if code, out := request(t, sim, "POST", "/v1/apps/shop/machines/m1/stop", ""); code != 408 {
		t.Errorf("stop: %d %v", code, out)
	}
	sim.Recover("shop", "m1")
	if _, m := request(t, sim, "GET", "/v1/apps/shop/machines/m1", ""); valueAt(m, "config", "env", "A") != "1" {
		t.Errorf("recovered %v", m)
	}
}

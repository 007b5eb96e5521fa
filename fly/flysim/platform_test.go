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

// ask makes one call and returns the status and the decoded response.
func ask(t *testing.T, sim *flysim.Sim, method, path, body string) (int, any) {
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

// at returns the value at a path in a response; a number is an index.
func at(v any, keys ...any) any {
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

func simulated(t *testing.T, apps ...string) *flysim.Sim {
	sim := new(flysim.Sim)
	t.Cleanup(sim.Close)
	for _, name := range apps {
		sim.CreateApp(name, "")
	}
	return sim
}

func TestDestroyedMachinesCanBeRead(t *testing.T) {
	sim := simulated(t, "shop")
	sim.Put("shop", fly.Machine{ID: "m1", Config: json.RawMessage(checked)}, fly.Machine{ID: "m2", Config: json.RawMessage(checked)})
	if code, out := ask(t, sim, "DELETE", "/v1/apps/shop/machines/m1?kill=true", ""); code != 200 {
		t.Fatal(code, out)
	}
	if code, out := ask(t, sim, "GET", "/v1/apps/shop/machines/m1", ""); code != 200 || at(out, "state") != "destroyed" || at(out, "config", "image") != "shop:1" {
		t.Errorf("read %d %v", code, out)
	}
	_, without := ask(t, sim, "GET", "/v1/apps/shop/machines", "")
	_, with := ask(t, sim, "GET", "/v1/apps/shop/machines?include_deleted=true", "")
	if len(without.([]any)) != 1 || len(with.([]any)) != 2 || at(with, 0, "state") != "destroyed" {
		t.Errorf("listed %v, with destroyed ones %v", without, with)
	}
}

func TestLeaseSaysWhoseAndWhy(t *testing.T) {
	sim := simulated(t, "shop")
	sim.Put("shop", fly.Machine{ID: "m1", InstanceID: "01V", Config: json.RawMessage(checked)})
	const lease = "/v1/apps/shop/machines/m1/lease"
	if code, out := ask(t, sim, "POST", lease+"?ttl=20", `{"description":"release shop/1"}`); code != 201 {
		t.Fatal(code, out)
	}
	code, out := ask(t, sim, "GET", lease, "")
	expires, _ := at(out, "data", "expires_at").(float64)
	left := time.Until(time.Unix(int64(expires), 0))
	if code != 200 || at(out, "data", "nonce") == "" || at(out, "data", "owner") == "" || at(out, "data", "version") != "01V" ||
		at(out, "data", "description") != "release shop/1" || left <= 0 || left > 20*time.Second {
		t.Errorf("%d %v, %s left", code, out, left)
	}
}

func TestSecretsHaveVersions(t *testing.T) {
	sim := simulated(t, "shop")
	set := func(values string) any {
		t.Helper()
		code, out := ask(t, sim, "POST", "/v1/apps/shop/secrets", `{"values":`+values+`}`)
		if code != 200 {
			t.Fatal(code, out)
		}
		return at(out, "version")
	}
	first := set(`{"KEY":"1","OTHER":"x"}`)
	_, before := ask(t, sim, "GET", "/v1/apps/shop/secrets", "")
	if v := set(`{"NOBODY_HAS_THIS":null}`); v != first {
		t.Errorf("deleting a name that is not there made version %v of %v", v, first)
	}
	second := set(`{"KEY":"2"}`)
	if second.(float64) != first.(float64)+1 {
		t.Errorf("version %v after %v", second, first)
	}
	_, after := ask(t, sim, "GET", "/v1/apps/shop/secrets", "")
	key := func(list any, i int, field string) any { return at(list, "secrets", i, field) }
	if key(before, 0, "updated_at") == key(after, 0, "updated_at") || key(before, 0, "digest") == key(after, 0, "digest") {
		t.Errorf("KEY was %v and is %v", at(before, "secrets", 0), at(after, "secrets", 0))
	}
	if key(before, 1, "updated_at") != key(after, 1, "updated_at") || key(before, 0, "created_at") != key(after, 0, "created_at") {
		t.Errorf("before %v, after %v", before, after)
	}
	create := func(version string) int {
		code, _ := ask(t, sim, "POST", "/v1/apps/shop/machines", `{"config":{"image":"shop:1"},"min_secrets_version":`+version+`}`)
		return code
	}
	if got := [2]int{create("3"), create("2")}; got != [2]int{412, 200} {
		t.Errorf("a secrets version that is ahead, and the one there is: %v", got)
	}
}

func TestVolumes(t *testing.T) {
	sim := simulated(t, "shop")
	volume := func(region string) string {
		code, out := ask(t, sim, "POST", "/v1/apps/shop/volumes", `{"name":"data","region":"`+region+`","size_gb":2}`)
		if code != 200 || at(out, "size_gb") != 2.0 || at(out, "attached_machine_id") != nil {
			t.Fatal(code, out)
		}
		return at(out, "id").(string)
	}
	attached := func(id string) any {
		_, out := ask(t, sim, "GET", "/v1/apps/shop/volumes/"+id, "")
		return at(out, "attached_machine_id")
	}
	mounting := func(ids ...string) string {
		var mounts []string
		for _, id := range ids {
			mounts = append(mounts, `{"volume":"`+id+`","path":"/`+id+`"}`)
		}
		return `{"region":"fra","config":{"image":"shop:1","mounts":[` + strings.Join(mounts, ",") + `]}}`
	}
	here, other, there := volume("fra"), volume("fra"), volume("ord")
	code, m := ask(t, sim, "POST", "/v1/apps/shop/machines", mounting(here))
	if code != 200 || attached(here) != at(m, "id") {
		t.Fatalf("%d %v, attached to %v", code, m, attached(here))
	}
	for name, id := range map[string]string{"attached elsewhere": here, "in another region": there} {
		if code, out := ask(t, sim, "POST", "/v1/apps/shop/machines", mounting(other, id)); code != 412 || attached(other) != nil {
			t.Errorf("%s: %d %v; the free one is attached to %v", name, code, out, attached(other))
		}
	}
	path := "/v1/apps/shop/machines/" + at(m, "id").(string)
	if code, out := ask(t, sim, "POST", path, mounting(other)); code != 400 {
		t.Errorf("another volume in an update: %d %v", code, out)
	}
	if code, out := ask(t, sim, "DELETE", "/v1/apps/shop/volumes/"+here, ""); code != 412 {
		t.Errorf("an attached volume is deleted: %d %v", code, out)
	}
	ask(t, sim, "DELETE", path+"?kill=true", "")
	if attached(here) != nil {
		t.Errorf("attached to %v after its machine was destroyed", attached(here))
	}
	ask(t, sim, "DELETE", "/v1/apps/shop/volumes/"+here, "")
	if _, out := ask(t, sim, "GET", "/v1/apps/shop/volumes", ""); len(out.([]any)) != 2 {
		t.Errorf("volumes %v", out)
	}
}

func TestAddresses(t *testing.T) {
	sim := simulated(t, "shop")
	for _, kind := range []string{"shared_v4", "v6"} {
		if code, out := ask(t, sim, "POST", "/v1/apps/shop/ip_assignments", `{"type":"`+kind+`"}`); code != 200 || at(out, "ip") == nil || at(out, "shared") != (kind == "shared_v4") {
			t.Errorf("%s: %d %v", kind, code, out)
		}
	}
	_, out := ask(t, sim, "GET", "/v1/apps/shop/ip_assignments", "")
	if len(at(out, "ips").([]any)) != 2 {
		t.Fatalf("addresses %v", out)
	}
	ask(t, sim, "DELETE", "/v1/apps/shop/ip_assignments/"+at(out, "ips", 0, "ip").(string), "")
	if _, left := ask(t, sim, "GET", "/v1/apps/shop/ip_assignments", ""); len(at(left, "ips").([]any)) != 1 || at(left, "ips", 0, "ip") != at(out, "ips", 1, "ip") {
		t.Errorf("left %v of %v", left, out)
	}
}

// command is the config of a machine that runs once.
const command = `{"image":"shop:1","auto_destroy":%s,"env":{"RELEASE_COMMAND":"1"},"restart":{"policy":"no"},"metadata":{"fly_process_group":"fly_app_release_command"}}`

func TestACommandThatIsStoppedSaysSo(t *testing.T) {
	for destroyed, state := range map[string]string{"true": "destroyed", "false": "stopped"} {
		bubble(t, &flysim.Sim{Latency: flysim.Latency{Command: time.Hour}}, func(t *testing.T, c *fly.Client) {
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

func TestAnAppIsDeployedOnceAMachineServes(t *testing.T) {
	sim := simulated(t, "shop")
	status := func() any {
		_, out := ask(t, sim, "GET", "/v1/apps/shop", "")
		return at(out, "status")
	}
	ask(t, sim, "POST", "/v1/apps/shop/machines", `{"config":`+strings.Replace(command, "%s", "false", 1)+`}`)
	if status() != "pending" {
		t.Errorf("%v after a release command", status())
	}
	ask(t, sim, "POST", "/v1/apps/shop/machines", `{"config":{"image":"shop:1"}}`)
	if status() != "deployed" {
		t.Errorf("%v after a machine started", status())
	}
}

func TestAStoppingMachineIsNotStarted(t *testing.T) {
	bubble(t, &flysim.Sim{Latency: usual}, func(t *testing.T, c *fly.Client) {
		if err := c.Stop(t.Context(), "shop", "m1", ""); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context(), "shop", "m1", ""); !errors.Is(err, fly.ErrPrecondition) {
			t.Errorf("started while it is %s: %v", read(t, c).State, err)
		}
		time.Sleep(2 * time.Second)
		if err := c.Start(t.Context(), "shop", "m1", ""); err != nil {
			t.Error(err)
		}
	})
}

func TestTheProxyStopsAndStartsMachines(t *testing.T) {
	for autostop, state := range map[string]string{"true": "stopped", `"stop"`: "stopped", `"suspend"`: "suspended", "false": "started", `"off"`: "started"} {
		sim := simulated(t)
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
	sim := simulated(t)
	sim.Put("shop", fly.Machine{ID: "m1", Config: json.RawMessage(checked), State: "stopped", Cordoned: true})
	sim.Wake("shop", "m1")
	if m := sim.Machines("shop")[0]; m.State != "stopped" {
		t.Errorf("a cordoned machine is %s: the proxy knows nothing of it", m.State)
	}
}

func TestPlatformFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault flysim.Fault
		kind  error
		text  string
	}{
		"the image is gone":       {flysim.Fault{Route: updateRoute, Effect: flysim.ImageGone}, fly.ErrInvalid, "manifest unknown"},
		"the host takes no more":  {flysim.Fault{Route: updateRoute, Effect: flysim.HostClosed}, fly.ErrNoCapacity, "deploys to this host are temporarily disabled"},
		"releases are forbidden":  {flysim.Fault{Route: "POST /api/v1/releases", App: "shop", Status: 403}, fly.ErrUnauthorized, ""},
		"releases are down":       {flysim.Fault{Route: "POST /api/v1/releases", App: "shop", Status: 503}, fly.ErrUnavailable, ""},
		"a release can't be shut": {flysim.Fault{Route: "PATCH /api/v1/releases/{release}", App: "shop", Status: 500}, fly.ErrUnavailable, ""},
		"others' releases are":    {flysim.Fault{Route: "POST /api/v1/releases", App: "other", Status: 500}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sim := new(flysim.Sim)
			bubble(t, sim, func(t *testing.T, c *fly.Client) {
				sim.Inject(test.fault)
				_, err := update(t, c)
				if strings.Contains(test.fault.Route, "releases") {
					var r fly.FlyRelease
					if r, err = c.CreateRelease(t.Context(), fly.NewRelease{App: "shop", Strategy: "rolling"}); err == nil {
						err = c.UpdateRelease(t.Context(), r.ID, "complete", "")
					}
				}
				if !errors.Is(err, test.kind) || err != nil && !strings.Contains(err.Error(), test.text) {
					t.Errorf("%v, want: %v", err, test.kind)
				}
				if m := read(t, c); strings.Contains(test.fault.Route, "machines") && m.ImageRef.Tag != "1" {
					t.Errorf("refused, and still it runs %s", m.ImageRef)
				}
			})
		})
	}
}

func TestALostHostHidesTheConfig(t *testing.T) {
	sim := simulated(t, "shop")
	_, v := ask(t, sim, "POST", "/v1/apps/shop/volumes", `{"name":"data","region":"fra"}`)
	id := at(v, "id").(string)
	sim.Put("shop", fly.Machine{ID: "m1", Config: json.RawMessage(`{"image":"shop:1","env":{"A":"1"},"metadata":{"who":"me"},"mounts":[{"volume":"` + id + `"}]}`)})
	sim.Lose("shop", "m1")
	_, m := ask(t, sim, "GET", "/v1/apps/shop/machines/m1", "")
	if at(m, "config") != nil || at(m, "host_status") != "unreachable" || at(m, "incomplete_config", "metadata", "who") != "me" || at(m, "incomplete_config", "env") != nil {
		t.Errorf("machine %v", m)
	}
	if _, v := ask(t, sim, "GET", "/v1/apps/shop/volumes/"+id, ""); at(v, "host_status") != "unreachable" {
		t.Errorf("its volume %v", v)
	}
	if code, out := ask(t, sim, "POST", "/v1/apps/shop/machines/m1/stop", ""); code != 408 {
		t.Errorf("stop: %d %v", code, out)
	}
	sim.Recover("shop", "m1")
	if _, m := ask(t, sim, "GET", "/v1/apps/shop/machines/m1", ""); at(m, "config", "env", "A") != "1" {
		t.Errorf("recovered %v", m)
	}
}

package fly_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/flysim"
)

// fixedResponse is a RoundTripper that returns the function's result as the body.
type fixedResponse func(*http.Request) string

func (a fixedResponse) RoundTrip(r *http.Request) (*http.Response, error) {
	body := a(r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// refuseFirst returns a RoundTripper that answers the first request with 429, the
// rest with body.
func refuseFirst(body func(*http.Request) string) http.RoundTripper {
	var asked atomic.Int32
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if asked.Add(1) == 1 {
			return &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
		}
		return fixedResponse(body).RoundTrip(r)
	})
}

// TestLimits_FirstRefusal: nothing is paced before Fly answers 429. From then
// on requests of that action on that app are: 5 reads of machines per second,
// everything else once per second. A machine that was not refused has its
// burst, other actions and other apps are not paced, and pacing ends after a
// while.
func TestLimits_FirstRefusal(t *testing.T) {
	type ask func(context.Context, *fly.Client, int) error
	get := func(ctx context.Context, c *fly.Client, _ int) error {
		_, err := c.Machine(ctx, "shop", "m1")
		return err
	}
	list := func(ctx context.Context, c *fly.Client, _ int) error { _, err := c.Machines(ctx, "shop"); return err }
	start := func(ctx context.Context, c *fly.Client, _ int) error { return c.Start(ctx, "shop", "m1", "") }
	later := func(ctx context.Context, c *fly.Client, i int) error {
		if i == 0 {
			time.Sleep(11 * time.Minute)
		}
		return start(ctx, c, i)
	}
	for name, test := range map[string]struct {
		first, then ask
		want        time.Duration // duration of 13 more
	}{
		"get":   {get, get, 2600 * time.Millisecond},
		"list":  {list, list, 13 * time.Second},
		"start": {start, start, 13 * time.Second},
		"wait": {func(ctx context.Context, c *fly.Client, _ int) error { return c.Wait(ctx, "shop", "m1", fly.Wait{}) },
			func(ctx context.Context, c *fly.Client, _ int) error { return c.Wait(ctx, "shop", "m1", fly.Wait{}) }, 13 * time.Second},
		"start of another machine": {start, func(ctx context.Context, c *fly.Client, _ int) error { return c.Start(ctx, "shop", "m2", "") }, 10 * time.Second},
		"start in another app":     {start, func(ctx context.Context, c *fly.Client, _ int) error { return c.Start(ctx, "other", "m1", "") }, 0},
		"another action":           {start, func(ctx context.Context, c *fly.Client, _ int) error { return c.Stop(ctx, "shop", "m1", "") }, 0},
		"long after":               {start, later, 11 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			body := func(r *http.Request) string {
				if strings.HasSuffix(r.URL.Path, "/machines") {
					return "[]"
				}
				return "{}"
			}
			c := &fly.Client{HTTP: &http.Client{Transport: fixedResponse(body)}}
			begun := time.Now()
			for i := range 30 {
				if err := test.first(t.Context(), c, i); err != nil {
					t.Fatal(name, err)
				}
			}
			if took := time.Since(begun); took != 0 {
				t.Errorf("%s: 30 requests took %s, and Fly has refused none", name, took)
			}
			c = &fly.Client{HTTP: &http.Client{Transport: refuseFirst(body)}}
			wantError(t, test.first(t.Context(), c, 0), fly.ErrRateLimited)
			begun = time.Now()
			for i := range 13 {
				if err := test.then(t.Context(), c, i); err != nil {
					t.Fatal(name, err)
				}
			}
			if took := time.Since(begun).Round(10 * time.Millisecond); took != test.want {
				t.Errorf("%s: 13 took %s, want %s", name, took, test.want)
			}
		})
	}
}

// TestLimits_RetryAfter: the next request of that kind waits for as long as Fly
// asked.
func TestLimits_RetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := &flysim.Sim{}
		defer sim.Close()
		sim.CreateApp("shop", "")
		sim.Inject(flysim.Fault{Times: 1, Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"7"}}})
		c := &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}}
		begun := time.Now()
		_, err := c.Machines(t.Context(), "shop")
		wantError(t, err, fly.ErrRateLimited)
		if _, err = c.Machines(t.Context(), "shop"); err != nil || time.Since(begun) != 7*time.Second {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}

// TestMachines_WaitingCallersShareOneRequest: callers that wait for the limiter
// share a response, which is never older than their call.
func TestMachines_WaitingCallersShareOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int32
		c := &fly.Client{HTTP: &http.Client{Transport: refuseFirst(func(*http.Request) string {
			sent.Add(1)
			at := time.Now().Format(time.RFC3339Nano)
			time.Sleep(100 * time.Millisecond)
			return `[{"id":"m1","created_at":"` + at + `"}]`
		})}}
		_, err := c.Machines(t.Context(), "shop")
		wantError(t, err, fly.ErrRateLimited)
		begun := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 30 * time.Millisecond)
				asked := time.Now()
				got, err := c.Machines(t.Context(), "shop")
				switch {
				case err != nil || len(got) != 1:
					t.Error(got, err)
				case got[0].CreatedAt.Before(asked):
					t.Errorf("called at %s, got the state of %s", asked.Sub(begun), got[0].CreatedAt.Sub(begun))
				case time.Since(asked) > 1100*time.Millisecond:
					t.Errorf("called at %s, returned after %s", asked.Sub(begun), time.Since(asked))
				}
			})
		}
		all.Wait()
		if n := sent.Load(); n > 7 { // a burst of 3 and one per second, for three seconds
			t.Errorf("%d lists were requested", n)
		}
	})
}

// TestMachines_CancelledCallerDoesNotCancelOthers: only the last caller cancels
// the request.
func TestMachines_CancelledCallerDoesNotCancelOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended error
		hangs := false
		c := &fly.Client{HTTP: &http.Client{Transport: refuseFirst(func(r *http.Request) string {
			if hangs {
				<-r.Context().Done()
				ended = r.Context().Err()
			}
			return `[]`
		})}}
		_, err := c.Machines(t.Context(), "shop")
		wantError(t, err, fly.ErrRateLimited)
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var first, second error
		var both sync.WaitGroup
		both.Go(func() { _, first = c.Machines(short, "shop") })
		both.Go(func() {
			time.Sleep(50 * time.Millisecond)
			_, second = c.Machines(t.Context(), "shop")
		})
		both.Wait()
		wantError(t, first, context.DeadlineExceeded)
		wantError(t, first, fly.ErrRateLimited)
		if second != nil {
			t.Errorf("the remaining caller got %v", second)
		}

		time.Sleep(10 * time.Second)
		hangs = true
		short, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.Machines(short, "shop")
		if wantError(t, err, context.DeadlineExceeded); errors.Is(err, fly.ErrRateLimited) {
			t.Errorf("was sent, but is ErrRateLimited: %v", err)
		}
		synctest.Wait()
		if !errors.Is(ended, context.Canceled) {
			t.Errorf("no caller is left, but the request was not cancelled: %v", ended)
		}
	})
}

// TestLimits_RollingUpdateNotSlowed: to lease, update, watch and release 60
// machines one at a time takes as long with the limiter as without it, and
// never exceeds Fly's limits.
func TestLimits_RollingUpdateNotSlowed(t *testing.T) {
	took := map[bool]time.Duration{}
	for _, limited := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			sim := &flysim.Sim{Limits: limited, Latency: flysim.Latency{API: 30 * time.Millisecond, Change: 370 * time.Millisecond, Boot: 2 * time.Second}}
			defer sim.Close()
			sim.CreateApp("shop", "")
			var ids []string
			for i := range 60 {
				ids = append(ids, fmt.Sprintf("%014x", i+1))
				sim.Put("shop", fly.Machine{ID: ids[i], Config: json.RawMessage(`{"image":"x"}`)})
			}
			c := &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}, Unlimited: !limited}
			begun := time.Now()
			updateAll(t, c, ids)
			took[limited] = time.Since(begun)
		})
	}
	if took[true] != took[false] {
		t.Errorf("60 machines took %s with the limiter, and %s without", took[true], took[false])
	}
}

// updateAll updates machines one at a time, as a rollout does.
func updateAll(t *testing.T, c *fly.Client, ids []string) {
	ctx := t.Context()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Error(err)
		}
	}
	nonces := map[string]string{}
	for _, id := range ids {
		l, err := c.TakeLease(ctx, "shop", id, "rollout 1", 10*time.Minute)
		must(err)
		nonces[id] = l.Nonce
	}
	for i, id := range ids {
		if i%20 == 10 {
			for _, id := range ids {
				_, err := c.Lease(ctx, "shop", id, nonces[id], 10*time.Minute)
				must(err)
			}
		}
		_, err := c.Machine(ctx, "shop", id)
		must(err)
		m, err := c.Update(ctx, "shop", id, fly.Update{Config: json.RawMessage(`{"image":"y"}`), Nonce: nonces[id]})
		must(err)
		must(c.Wait(ctx, "shop", id, fly.Wait{State: "started", Version: m.InstanceID, Timeout: 15 * time.Second}))
		for range 5 {
			_, err := c.Machine(ctx, "shop", id)
			must(err)
			time.Sleep(170 * time.Millisecond) // the response takes another 30 ms
		}
	}
	for _, id := range ids {
		must(c.ReleaseLease(ctx, "shop", id, nonces[id]))
	}
}

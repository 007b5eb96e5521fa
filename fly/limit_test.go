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

// answers is a Fly that answers whatever it is asked with what the function
// says.
type answers func(*http.Request) string

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	body := a(r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// TestEachActionHasItsLimit: 10 machines read at once, then 5 a second; 3 of
// everything else, then one a second; and no machine waits for another.
func TestEachActionHasItsLimit(t *testing.T) {
	for name, test := range map[string]struct {
		ask  func(context.Context, *fly.Client, int) error
		want time.Duration // for 13
	}{
		"get": {func(ctx context.Context, c *fly.Client, _ int) error {
			_, err := c.Machine(ctx, "shop", "m1")
			return err
		}, 600 * time.Millisecond},
		"get others": {func(ctx context.Context, c *fly.Client, i int) error {
			_, err := c.Machine(ctx, "shop", fmt.Sprint("m", i))
			return err
		}, 0},
		"list":  {func(ctx context.Context, c *fly.Client, _ int) error { _, err := c.Machines(ctx, "shop"); return err }, 10 * time.Second},
		"wait":  {func(ctx context.Context, c *fly.Client, _ int) error { return c.Wait(ctx, "shop", "m1", fly.Wait{}) }, 10 * time.Second},
		"start": {func(ctx context.Context, c *fly.Client, _ int) error { return c.Start(ctx, "shop", "m1", "") }, 10 * time.Second},
		"start others": {func(ctx context.Context, c *fly.Client, i int) error {
			return c.Start(ctx, "shop", fmt.Sprint("m", i), "")
		}, 0},
		"another action each": {func(ctx context.Context, c *fly.Client, i int) error {
			return []func(context.Context, string, string, string) error{c.Start, c.Stop, c.Cordon, c.Uncordon, c.Destroy}[i%5](ctx, "shop", "m1", "")
		}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &fly.Client{HTTP: &http.Client{Transport: answers(func(r *http.Request) string {
				if strings.HasSuffix(r.URL.Path, "/machines") {
					return "[]"
				}
				return "{}"
			})}}
			begun := time.Now()
			for i := range 13 {
				if err := test.ask(t.Context(), c, i); err != nil {
					t.Fatal(name, err)
				}
			}
			if took := time.Since(begun).Round(10 * time.Millisecond); took != test.want {
				t.Errorf("%s: 13 took %s, want %s", name, took, test.want)
			}
		})
	}
}

// TestListsAreAskedTogether: those who wait for the limiter share an answer, and
// it is never older than their question.
func TestListsAreAskedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int32
		c := &fly.Client{HTTP: &http.Client{Transport: answers(func(*http.Request) string {
			sent.Add(1)
			at := time.Now().Format(time.RFC3339Nano)
			time.Sleep(100 * time.Millisecond)
			return `[{"id":"m1","created_at":"` + at + `"}]`
		})}}
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
					t.Errorf("asked at %s, and told what was at %s", asked.Sub(begun), got[0].CreatedAt.Sub(begun))
				case time.Since(asked) > 1100*time.Millisecond:
					t.Errorf("asked at %s, answered after %s", asked.Sub(begun), time.Since(asked))
				}
			})
		}
		all.Wait()
		if n := sent.Load(); n > 7 { // a burst of 3 and one a second, for three seconds
			t.Errorf("%d lists were asked for", n)
		}
	})
}

// TestWhoeverLeavesAListLeavesIt to the others; the last one ends it.
func TestWhoeverLeavesAListLeavesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended error
		hangs := false
		c := &fly.Client{HTTP: &http.Client{Transport: answers(func(r *http.Request) string {
			if hangs {
				<-r.Context().Done()
				ended = r.Context().Err()
			}
			return `[]`
		})}}
		for range 3 { // the burst
			if _, err := c.Machines(t.Context(), "shop"); err != nil {
				t.Fatal(err)
			}
		}
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
		is(t, first, context.DeadlineExceeded)
		is(t, first, fly.ErrRateLimited)
		if second != nil {
			t.Errorf("who stayed got %v", second)
		}

		time.Sleep(10 * time.Second)
		hangs = true
		short, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Machines(short, "shop")
		if is(t, err, context.DeadlineExceeded); errors.Is(err, fly.ErrRateLimited) {
			t.Errorf("it was sent, and yet: %v", err)
		}
		synctest.Wait()
		if !errors.Is(ended, context.Canceled) {
			t.Errorf("nobody asks any more, and the request goes on: %v", ended)
		}
	})
}

// TestRollingIsNotSlowed: 60 machines that are leased, updated, watched and given
// back, one at a time, take as long with the limiter as without it, and never
// meet Fly's own limits.
func TestRollingIsNotSlowed(t *testing.T) {
	took := map[bool]time.Duration{}
	for _, limited := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			sim := &flysim.Sim{Limits: limited, Latency: flysim.Latency{API: 30 * time.Millisecond, Change: 370 * time.Millisecond, Boot: 2 * time.Second}}
			defer sim.Close()
			sim.CreateApp("shop", "")
			ctx := t.Context()
			setup := &fly.Client{HTTP: &http.Client{Transport: sim.Transport()}}
			var ids []string
			for range 60 {
				m, err := setup.Create(ctx, "shop", fly.Create{Config: json.RawMessage(`{"image":"x"}`)})
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, m.ID)
			}
			time.Sleep(time.Minute)
			c := &fly.Client{HTTP: setup.HTTP, Unlimited: !limited}
			begun := time.Now()
			roll(t, c, ids)
			took[limited] = time.Since(begun)
		})
	}
	if took[true] != took[false] {
		t.Errorf("60 machines took %s with the limiter, and %s without", took[true], took[false])
	}
}

// roll changes machines one at a time, as a rollout does.
func roll(t *testing.T, c *fly.Client, ids []string) {
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
			time.Sleep(170 * time.Millisecond) // and 30 ms for the answer
		}
	}
	for _, id := range ids {
		must(c.ReleaseLease(ctx, "shop", id, nonces[id]))
	}
}

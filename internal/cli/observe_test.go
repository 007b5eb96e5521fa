package cli

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microbima/release/fly"
	"github.com/microbima/release/fly/driver"
	"github.com/microbima/release/fly/flysim"
	"github.com/microbima/release/release"
)

// busy is a transport that counts the Fly apps with concurrent requests.
type busy struct {
	next http.RoundTripper
	mu   sync.Mutex
	asks map[string]int
	most int
}

func (b *busy) RoundTrip(req *http.Request) (*http.Response, error) {
	_, rest, _ := strings.Cut(req.URL.Path, "/apps/")
	app, _, _ := strings.Cut(rest, "/")
	b.count(app, 1)
	defer b.count(app, -1)
	time.Sleep(5 * time.Millisecond)
	return b.next.RoundTrip(req)
}

func (b *busy) count(app string, n int) {
	if app == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asks[app] += n; b.asks[app] == 0 {
		delete(b.asks, app)
	}
	b.most = max(b.most, len(b.asks))
}

// Many targets are observed concurrently, up to a limit.
func TestObserve_ManyTargets(t *testing.T) {
	sim := new(flysim.Sim)
	t.Cleanup(sim.Close)
	b := &busy{next: sim.Transport(), asks: map[string]int{}}
	p := Platform{Client: &fly.Client{FlapsURL: "http://fly", APIURL: "http://fly", UIEXURL: "http://fly", Unlimited: true, HTTP: &http.Client{Transport: b}}}
	var targets []release.TargetFile
	var baselines []release.Baseline
	for i := range 3 * driver.ConcurrentTargets {
		target := release.Target{App: fmt.Sprint("app", i), Environment: "staging"}
		sim.CreateApp(target.App, "")
		targets = append(targets, release.TargetFile{Target: target, FlyApp: target.App})
		baselines = append(baselines, release.Baseline{State: release.State{Target: target, FlyApp: target.App}})
	}
	for _, seen := range p.observeTargets(t.Context(), targets) {
		if seen.Unknown != "" || seen.Missing != "" {
			t.Fatalf("%s: %s%s", seen.State.Target, seen.Unknown, seen.Missing)
		}
	}
	if _, err := p.planRestore(t.Context(), "staging", baselines); err != nil {
		t.Fatal(err)
	}
	if b.most > driver.ConcurrentTargets || b.most < driver.ConcurrentTargets/2 {
		t.Errorf("%d Fly apps were asked about at once, want at most %d", b.most, driver.ConcurrentTargets)
	}
}

//go:build unix

package localrunner

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/microbima/release/fly/flysim"
)

func backends(ids []string, ps ...flysim.Process) []flysim.Backend {
	var out []flysim.Backend
	for i, p := range ps {
		out = append(out, flysim.Backend{Machine: ids[i], Process: p, Port: 8080})
	}
	return out
}

func TestAppProxy_RoundRobin(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	image := pushServer(t, runner)
	url := runner.URL("shop")
	if !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Fatalf("the URL is %s", url)
	}
	if status, body := httpGet(t, url+"/who"); status != http.StatusServiceUnavailable || !strings.Contains(body, "shop is unavailable: no machine") {
		t.Errorf("with no machine: %d %q", status, body)
	}
	a, b := startAndWait(t, runner, "a", image, nil), startAndWait(t, runner, "b", image, nil)
	ids := []string{"a", "b"}
	runner.Route("shop", backends(ids, a, b))
	served := map[string]int{}
	for range 10 {
		_, who := httpGet(t, url+"/who")
		served[who]++
	}
	if served["a"] != 5 || served["b"] != 5 {
		t.Errorf("served by %v, want each in turn", served)
	}

	runner.Route("shop", backends(ids, a))
	for range 4 {
		if _, who := httpGet(t, url+"/who"); who != "a" {
			t.Errorf("served by %q, which is not a backend", who)
		}
	}
	runner.Route("shop", nil)
	if status, _ := httpGet(t, url+"/who"); status != http.StatusServiceUnavailable {
		t.Errorf("after the last machine was removed: %d", status)
	}
	if runner.URL("shop") != url {
		t.Errorf("the URL changed to %s from %s", runner.URL("shop"), url)
	}
	if other := runner.URL("other"); other == url || other == "" {
		t.Errorf("another app is at %q", other)
	}
}

func TestAppProxy_UnreachableMachine(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	image := pushServer(t, runner)
	a, b := startAndWait(t, runner, "a", image, nil), startAndWait(t, runner, "b", image, nil)
	url := runner.URL("shop")
	runner.Route("shop", backends([]string{"a", "b"}, a, b))
	if err := a.Stop(t.Context(), "SIGKILL", time.Second); err != nil { // without a call of Route
		t.Fatal(err)
	}
	for range 4 {
		if _, who := httpGet(t, url+"/who"); who != "b" {
			t.Errorf("served by %q", who)
		}
		r, err := http.Post(url+"/echo?x=1;y", "text/plain", strings.NewReader("all of it"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if string(body) != "all of it" {
			t.Errorf("the response to the post is %q", body)
		}
	}
	if err := b.Stop(t.Context(), "SIGKILL", time.Second); err != nil {
		t.Fatal(err)
	}
	if status, body := httpGet(t, url+"/who"); status != http.StatusBadGateway || !strings.Contains(body, "machine ") {
		t.Errorf("with every machine gone: %d %q", status, body)
	}
}

// A request that may have been executed is not sent again.
func TestAppProxy_RetriesOnlySafeRequests(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	image := pushServer(t, runner)
	good := startAndWait(t, runner, "good", image, nil)
	tries := make(chan string, 8)
	cut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tries <- r.Method
		panic(http.ErrAbortHandler)
	})}
	go func() { _ = broken.Serve(cut) }()
	defer broken.Close()
	e, err := runner.proxyFor("shop")
	if err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]int{http.MethodGet: http.StatusOK, http.MethodPost: http.StatusBadGateway} {
		e.nextIndex = 0
		runner.Route("shop", []flysim.Backend{{Machine: "broken", Process: addrProcess{cut.Addr().String()}}, {Machine: "good", Process: good}})
		req, err := http.NewRequest(method, e.url+"/who", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want || <-tries != method {
			t.Errorf("%s: %s, want %d", method, r.Status, want)
		}
	}
}

// addrProcess is a process that only has an address.
type addrProcess struct{ addr string }

func (a addrProcess) Addr(int) string                                 { return a.addr }
func (a addrProcess) ListeningPorts(internal []int) []int             { return internal }
func (addrProcess) Done() <-chan struct{}                             { return nil }
func (addrProcess) ExitCode() int                                     { return 0 }
func (addrProcess) Log() []string                                     { return nil }
func (addrProcess) Stop(context.Context, string, time.Duration) error { return nil }

func TestAppProxy_OpenRequestsFinish(t *testing.T) {
	runner := openRunner(t, t.TempDir())
	image := pushServer(t, runner)
	a, b := startAndWait(t, runner, "a", image, nil), startAndWait(t, runner, "b", image, nil)
	url := runner.URL("shop")
	runner.Route("shop", backends([]string{"a"}, a))
	r, err := http.Get(url + "/hold")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body := bufio.NewReader(r.Body)
	if line, err := body.ReadString('\n'); err != nil || line != "held\n" {
		t.Fatal(line, err)
	}
	runner.Route("shop", backends([]string{"b"}, b))
	if _, who := httpGet(t, url+"/who"); who != "b" {
		t.Errorf("a new request went to %q", who)
	}
	// A machine is out of the routes before it is stopped; the open request
	// ends after that.
	if err := a.Stop(t.Context(), "", time.Minute); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(body); err != nil || string(rest) != "released\n" {
		t.Errorf("the request ended with %q, %v", rest, err)
	}
}

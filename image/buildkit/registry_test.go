package buildkit_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/microbima/release/image"
	"github.com/microbima/release/image/buildkit"
)

// A guarded registry lets those in who say the password, and some of them push.
type guarded struct {
	http.Handler
	readOnly, noCaches atomic.Bool
}

func newGuarded() *guarded {
	return &guarded{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	changes := r.Method != http.MethodGet && r.Method != http.MethodHead
	switch _, password, _ := r.BasicAuth(); {
	case password != "registry-password":
		w.Header().Set("WWW-Authenticate", `Basic realm="shop"`)
		w.WriteHeader(http.StatusUnauthorized)
	case changes && g.readOnly.Load():
		w.WriteHeader(http.StatusForbidden)
	case strings.Contains(r.URL.Path, "/manifests/release-cache-") && g.noCaches.Load():
		w.WriteHeader(http.StatusInternalServerError)
	default:
		g.Handler.ServeHTTP(w, r)
	}
}

// login is what a worker has for registries.
type login struct{ password string }

func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: "x", Password: l.password}, nil
}

// TestLogin: BuildKit pushes and pulls with the worker's login, which no build
// sees.
func TestLogin(t *testing.T) {
	g := newGuarded()
	host := serve(t, g)
	d := start(t, "")
	b := d.builder(t)
	src := source(t, map[string]string{"Dockerfile": "FROM base:1\nRUN env > /env\n"})
	req, out := request(t, host)
	refused := func(what string) {
		t.Helper()
		_, err := b.Build(t.Context(), src, req)
		if !errors.Is(err, image.ErrUnauthorized) || errors.As(err, new(*image.BuildError)) || !strings.Contains(err.Error(), host) || !strings.Contains(err.Error(), "docker login") {
			t.Errorf("%s: got %v", what, err)
		}
		if strings.Contains(out.String(), "RUN") {
			t.Errorf("%s: it was built before anybody asked", what)
		}
	}
	refused("no login")
	b.Keychain = login{"wrong"}
	refused("a wrong login")
	b.Keychain = login{"registry-password"}
	g.readOnly.Store(true)
	refused("a login that may only read")
	g.readOnly.Store(false)
	built := build(t, b, src, req)
	parsed, err := name.NewDigest(string(built.Image))
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(parsed, remote.WithAuthFromKeychain(b.Keychain))
	if err != nil {
		t.Fatal(err)
	}
	if env := fileOf(t, img, "env"); strings.Contains(env, "password") || strings.Contains(out.String(), "registry-password") {
		t.Errorf("a step sees the login: %s", env)
	}
	// One that ends in the middle.
	src = source(t, map[string]string{"Dockerfile": "FROM base:1\nRUN sleep 1.55555\n"})
	ended := make(chan error, 1)
	go func() { _, err := b.Build(t.Context(), src, req); ended <- err }()
	eventually(t, "the step runs", func() bool { return len(processes(t, "1.55555")) > 0 })
	g.readOnly.Store(true)
	if err := <-ended; !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "push to "+host) {
		t.Errorf("a login that ends: %v", err)
	}
	g.readOnly.Store(false)
	// A base image behind the same login.
	src = source(t, map[string]string{"Dockerfile": "FROM " + host + "/shop:v1\nRUN cat /env\n"})
	req.Tag = "v2"
	build(t, b, src, req)
	b.Keychain = nil
	req.Repository = shop(t) + "/open"
	if _, err := b.Build(t.Context(), src, req); !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "Dockerfile:1: image "+host+"/shop:v1") {
		t.Errorf("a base image behind a login: %v", err)
	}
}

// A tokened registry lets those in who bring a token of its own server, as most
// registries on the internet do.
type tokened struct {
	http.Handler
	mu     sync.Mutex
	logins []string // who asked for tokens: program and user
}

func (g *tokened) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/token" && r.Method == http.MethodPost:
		w.WriteHeader(http.StatusNotFound) // no OAuth here
	case r.URL.Path == "/token":
		user, password, _ := r.BasicAuth()
		g.mu.Lock()
		g.logins = append(g.logins, user)
		g.mu.Unlock()
		if password != "registry-password" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, `{"token": "a-token"}`)
	case r.Header.Get("Authorization") != "Bearer a-token":
		if r.Header.Get("Authorization") != "" {
			g.mu.Lock()
			g.logins = append(g.logins, "a login, sent to the registry itself")
			g.mu.Unlock()
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="shop"`)
		w.WriteHeader(http.StatusUnauthorized)
	default:
		g.Handler.ServeHTTP(w, r)
	}
}

// TestTokens: the login stays with the worker, which fetches tokens for BuildKit.
func TestTokens(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", folder(t)) // where the client keeps a seed of its own
	g := &tokened{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	b := start(t, "").builder(t)
	src := source(t, map[string]string{"Dockerfile": "FROM base:1\nRUN echo > /a\n"})
	req, _ := request(t, serve(t, g))
	b.Keychain = login{"wrong"}
	if _, err := b.Build(t.Context(), src, req); !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("a wrong login: %v", err)
	}
	b.Keychain = login{"registry-password"}
	build(t, b, src, req)
	for _, who := range g.logins {
		if who != "x" {
			t.Errorf("logged in: %q", g.logins)
		}
	}
}

// TestTheCacheSurvives: a BuildKit that knows nothing takes from the registry
// what another one did.
func TestTheCacheSurvives(t *testing.T) {
	host := shop(t)
	src := source(t, map[string]string{
		"Dockerfile": "FROM base:1 AS build\nCOPY a /a\nRUN cat /proc/sys/kernel/random/uuid > /made\nFROM base:1\nCOPY --from=build /made /made\nCOPY b /b\n",
		"a":          "a", "b": "b1",
	})
	made := map[buildkit.Cache][]string{}
	for _, cache := range []buildkit.Cache{buildkit.CacheMax, buildkit.CacheMin, buildkit.CacheOff} {
		for i, b := range []string{"b1", "b2"} {
			if err := os.WriteFile(filepath.Join(src.Dir, "b"), []byte(b), 0o644); err != nil {
				t.Fatal(err)
			}
			src.Revision.Commit = strings.Repeat(b[1:], 40)
			builder := start(t, "").builder(t)
			builder.Cache = cache
			req, out := request(t, host)
			req.Repository, req.Tag = host+"/"+string(cache), b
			img, _ := pull(t, build(t, builder, src, req).Image)
			made[cache] = append(made[cache], fileOf(t, img, "made"))
			if fileOf(t, img, "b") != b {
				t.Errorf("%s: the image is not of its revision", cache)
			}
			if i == 0 && strings.Contains(out.String(), "ERROR") {
				t.Errorf("%s: a cache that is not there yet is told as an error", cache)
			}
		}
	}
	for cache, same := range map[buildkit.Cache]bool{buildkit.CacheMax: true, buildkit.CacheOff: false} {
		if got := made[cache]; (got[0] == got[1]) != same || got[0] == "" {
			t.Errorf("cache %s: a step made %q", cache, got)
		}
	}
}

// TestACacheThatFails fails nothing else.
func TestACacheThatFails(t *testing.T) {
	g := newGuarded()
	g.noCaches.Store(true)
	b := start(t, "").builder(t)
	b.Keychain = login{"registry-password"}
	req, out := request(t, serve(t, g))
	build(t, b, source(t, map[string]string{"Dockerfile": "FROM base:1\nRUN echo > /a\n"}), req)
	if !strings.Contains(out.String(), "500") {
		t.Error("nobody tells of the cache that could not be written")
	}
}

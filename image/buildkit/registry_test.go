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

// A guarded registry requires a password, which may be read-only.
type guarded struct {
	http.Handler
	readOnly, noCaches atomic.Bool
}

func newGuarded() *guarded {
	return &guarded{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isChange := r.Method != http.MethodGet && r.Method != http.MethodHead
	switch _, password, _ := r.BasicAuth(); {
	case password != "registry-password":
		w.Header().Set("WWW-Authenticate", `Basic realm="shop"`)
		w.WriteHeader(http.StatusUnauthorized)
	case isChange && g.readOnly.Load():
		w.WriteHeader(http.StatusForbidden)
	case strings.Contains(r.URL.Path, "/manifests/release-cache-") && g.noCaches.Load():
		w.WriteHeader(http.StatusInternalServerError)
	default:
		g.Handler.ServeHTTP(w, r)
	}
}

// A login is a worker's login for registries.
type login struct{ password string }

func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: "x", Password: l.password}, nil
}

// BuildKit pushes and pulls with the worker's login, which no step sees.
func TestBuild_RegistryLogin(t *testing.T) {
	g := newGuarded()
	host := serve(t, g)
	d := startBuildkitd(t, "")
	b := d.newBuilder(t)
	src := newSource(t, map[string]string{"Dockerfile": "FROM base:1\nRUN env > /env\n"})
	req, out := newRequest(t, host)
	wantRefused := func(situation string) {
		t.Helper()
		_, err := b.Build(t.Context(), src, req)
		if !errors.Is(err, image.ErrUnauthorized) || errors.As(err, new(*image.BuildError)) || !strings.Contains(err.Error(), host) || !strings.Contains(err.Error(), "docker login") {
			t.Errorf("%s: got %v", situation, err)
		}
		if strings.Contains(out.String(), "RUN") {
			t.Errorf("%s: it was built before the login was checked", situation)
		}
	}
	wantRefused("no login")
	b.Keychain = login{"wrong"}
	wantRefused("a wrong login")
	b.Keychain = login{"registry-password"}
	g.readOnly.Store(true)
	wantRefused("a read-only login")
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
	if env := readImageFile(t, img, "env"); strings.Contains(env, "password") || strings.Contains(out.String(), "registry-password") {
		t.Errorf("a step sees the login: %s", env)
	}
	// A login that is revoked during the build.
	src = newSource(t, map[string]string{"Dockerfile": "FROM base:1\nRUN sleep 1.55555\n"})
	ended := make(chan error, 1)
	go func() { _, err := b.Build(t.Context(), src, req); ended <- err }()
	eventually(t, "the step runs", func() bool { return len(findProcesses(t, "1.55555")) > 0 })
	g.readOnly.Store(true)
	if err := <-ended; !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "push to "+host) {
		t.Errorf("a revoked login: %v", err)
	}
	g.readOnly.Store(false)
	// A base image behind the same login.
	src = newSource(t, map[string]string{"Dockerfile": "FROM " + host + "/shop:v1\nRUN cat /env\n"})
	req.Tag = "v2"
	build(t, b, src, req)
	b.Keychain = nil
	req.Repository = newRegistry(t) + "/open"
	if _, err := b.Build(t.Context(), src, req); !errors.Is(err, image.ErrUnauthorized) || !strings.Contains(err.Error(), "Dockerfile:1: image "+host+"/shop:v1") {
		t.Errorf("a base image behind a login: %v", err)
	}
}

// A tokenRegistry requires a token of its own token server, like most public
// registries.
type tokenRegistry struct {
	http.Handler
	mu     sync.Mutex
	logins []string // the users that requested tokens
}

func (g *tokenRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/token" && r.Method == http.MethodPost:
		w.WriteHeader(http.StatusNotFound) // OAuth is not supported
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

// The worker keeps the login, and fetches tokens for BuildKit.
func TestBuild_RegistryTokens(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", tempDir(t)) // the client stores a seed there
	g := &tokenRegistry{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	b := startBuildkitd(t, "").newBuilder(t)
	src := newSource(t, map[string]string{"Dockerfile": "FROM base:1\nRUN echo > /a\n"})
	req, _ := newRequest(t, serve(t, g))
	b.Keychain = login{"wrong"}
	if _, err := b.Build(t.Context(), src, req); !errors.Is(err, image.ErrUnauthorized) {
		t.Errorf("a wrong login: %v", err)
	}
	b.Keychain = login{"registry-password"}
	build(t, b, src, req)
	for _, user := range g.logins {
		if user != "x" {
			t.Errorf("logins are %q; want only x", g.logins)
		}
	}
}

// A new BuildKit reads the steps of another one from the cache in the registry.
func TestBuild_CacheInRegistry(t *testing.T) {
	host := newRegistry(t)
	src := newSource(t, map[string]string{
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
			builder := startBuildkitd(t, "").newBuilder(t)
			builder.Cache = cache
			req, out := newRequest(t, host)
			req.Repository, req.Tag = host+"/"+string(cache), b
			img, _ := pull(t, build(t, builder, src, req).Image)
			made[cache] = append(made[cache], readImageFile(t, img, "made"))
			if readImageFile(t, img, "b") != b {
				t.Errorf("%s: the image has the file of another revision", cache)
			}
			if i == 0 && strings.Contains(out.String(), "ERROR") {
				t.Errorf("%s: the log has an error for a cache that does not exist yet", cache)
			}
		}
	}
	for cache, same := range map[buildkit.Cache]bool{buildkit.CacheMax: true, buildkit.CacheOff: false} {
		if got := made[cache]; (got[0] == got[1]) != same || got[0] == "" {
			t.Errorf("cache %s: the step printed %q", cache, got)
		}
	}
}

// A cache that can't be written does not fail the build.
func TestBuild_FailingCache(t *testing.T) {
	g := newGuarded()
	g.noCaches.Store(true)
	b := startBuildkitd(t, "").newBuilder(t)
	b.Keychain = login{"registry-password"}
	req, out := newRequest(t, serve(t, g))
	build(t, b, newSource(t, map[string]string{"Dockerfile": "FROM base:1\nRUN echo > /a\n"}), req)
	if !strings.Contains(out.String(), "500") {
		t.Error("the log has no error for the cache")
	}
}

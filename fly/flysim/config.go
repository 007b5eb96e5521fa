package flysim

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/fly"
)

// config is the part of a machine config that flysim interprets.
type config struct {
	Image       string               `json:"image"`
	Env         map[string]string    `json:"env"`
	Metadata    map[string]string    `json:"metadata"`
	Services    []service            `json:"services"`
	Checks      map[string]checkSpec `json:"checks"`
	AutoDestroy bool                 `json:"auto_destroy"`
	Restart     struct {
		Policy     string `json:"policy"`
		MaxRetries int    `json:"max_retries"`
	} `json:"restart"`
	StopConfig struct {
		Signal  string   `json:"signal"`
		Timeout duration `json:"timeout"`
	} `json:"stop_config"`
	Mounts []struct {
		Volume string `json:"volume"`
	} `json:"mounts"`
}

type service struct {
	InternalPort int         `json:"internal_port"`
	Protocol     string      `json:"protocol"`
	Checks       []checkSpec `json:"checks"`
	Autostop     any         `json:"autostop"` // true, false, "stop", "suspend", "off"
	Autostart    *bool       `json:"autostart"`
	Ports        []struct {
		Port     int      `json:"port"`
		Handlers []string `json:"handlers"`
	} `json:"ports"`
}

type checkSpec struct {
	Type     string   `json:"type"`
	Port     int      `json:"port"`
	Interval duration `json:"interval"`
	Timeout  duration `json:"timeout"`
	Grace    duration `json:"grace_period"`
	Method   string   `json:"method"`
	Path     string   `json:"path"`
	Protocol string   `json:"protocol"`
	Insecure bool     `json:"tls_skip_verify"`
	Headers  []struct {
		Name   string   `json:"name"`
		Values []string `json:"values"`
	} `json:"headers"`

	name    string
	service bool // its result decides whether the proxy routes to the machine
}

// A duration is "10s", or a number of nanoseconds.
type duration time.Duration

func (d *duration) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		if text == "" {
			return nil
		}
		v, err := time.ParseDuration(text)
		*d = duration(v)
		return err
	}
	var n int64
	err := json.Unmarshal(b, &n)
	*d = duration(n)
	return err
}

func (m *machine) config() config {
	if m.parsed.of != m.Config {
		m.parsed.of, m.parsed.config = m.Config, config{}
		_ = json.Unmarshal([]byte(m.Config), &m.parsed.config) // was validated when it was accepted
	}
	return m.parsed.config
}

func (c config) processGroup() string {
	return cmp.Or(c.Metadata["fly_process_group"], c.Metadata["process_group"])
}

// runsOnce reports whether a machine with that config runs a command rather
// than a service.
func (c config) runsOnce() bool {
	return slices.Contains([]string{"fly_app_release_command", "fly_app_test_machine_command"}, c.processGroup()) ||
		c.Env["RELEASE_COMMAND"] != "" || c.Env["FLY_TEST_COMMAND"] != ""
}

// checks returns the checks of the services in order, then the top-level checks
// sorted by name.
func (c config) checks() []checkSpec {
	var out []checkSpec
	for _, s := range c.Services {
		for _, k := range s.Checks {
			k.Port = cmp.Or(k.Port, s.InternalPort)
			k.Type = cmp.Or(k.Type, "tcp")
			k.name = fmt.Sprintf("servicecheck-%02d-%s-%d", len(out), k.Type, k.Port)
			k.service = true
			out = append(out, k)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Checks)) {
		k := c.Checks[name]
		k.name = name
		k.Type = cmp.Or(k.Type, "tcp")
		out = append(out, k)
	}
	return out
}

// urlPort returns the internal port behind the app's URL; 0 if there is none.
func (c config) urlPort() int {
	for _, s := range c.Services {
		for _, p := range s.Ports {
			if slices.Contains(p.Handlers, "http") {
				return s.InternalPort
			}
		}
	}
	if len(c.Services) > 0 {
		return c.Services[0].InternalPort
	}
	return 0
}

// restartsAfter reports whether a machine that exited with code, after that
// many restarts, is started again.
func (c config) restartsAfter(code, times int) bool {
	switch c.Restart.Policy {
	case "no":
		return false
	case "always":
		return true
	}
	return code != 0 && times < cmp.Or(c.Restart.MaxRetries, 10)
}

// resolveImage parses an image reference and looks up its digest.
func (s *Sim) resolveImage(ref string) (fly.ImageRef, bool) {
	digest, ok := s.imageDigest(ref)
	var r fly.ImageRef
	name, _, _ := strings.Cut(ref, "@")
	r.Digest = digest
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, r.Tag = name[:i], name[i+1:]
	}
	r.Registry, r.Repository = "docker.io", name
	if host, rest, found := strings.Cut(name, "/"); found && strings.ContainsAny(host, ".:") {
		r.Registry, r.Repository = host, rest
	}
	if r.Tag == "" && digest != "" && !strings.Contains(ref, "@") {
		r.Tag = "latest"
	}
	return r, ok
}

func (s *Sim) imageDigest(ref string) (string, bool) {
	if s.Images != nil {
		return s.Images(ref)
	}
	if _, digest, pinned := strings.Cut(ref, "@"); pinned {
		return digest, true
	}
	sum := sha256.Sum256([]byte(ref))
	return "sha256:" + hex.EncodeToString(sum[:]), ref != ""
}

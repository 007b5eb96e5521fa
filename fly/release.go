package fly

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A NewRelease is a Fly release to be recorded.
type NewRelease struct {
	App        string
	Image      string
	Strategy   string          // rolling, canary, bluegreen, immediate
	Definition json.RawMessage // fly.toml as JSON, as flyctl would say it; may be nil
}

// A FlyRelease is Fly's record of a release: what flyctl releases shows.
type FlyRelease struct {
	ID         string    `json:"id"`
	Version    int       `json:"version"` // counts up per app
	Status     string    `json:"status"`  // running, complete, failed, interrupted
	Strategy   string    `json:"strategy"`
	ImageRef   string    `json:"image_ref"`
	User       string    `json:"user"`
	Stable     bool      `json:"stable"`
	InProgress bool      `json:"in_progress"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
}

// CreateRelease records that a release begins. It is not running until
// UpdateRelease says so.
func (c *Client) CreateRelease(ctx context.Context, in NewRelease) (FlyRelease, error) {
	definition := in.Definition
	if len(definition) == 0 {
		definition = json.RawMessage("{}")
	}
	req := call{op: "record a release of " + in.App, method: http.MethodPost, uiex: true, unbooked: true, path: []string{"releases"}}
	req.body = encode(map[string]any{
		"app_name": in.App, "build_id": 0, "definition": definition, "image": in.Image, "strategy": strings.ToUpper(in.Strategy),
	})
	var out struct {
		Release FlyRelease `json:"release"`
	}
	err := c.do(ctx, req, &out)
	return out.Release, err
}

// UpdateRelease says how a release stands: running, complete, failed or
// interrupted, and why. It may be called twice.
func (c *Client) UpdateRelease(ctx context.Context, id, status, errText string) error {
	var metadata any
	if status != "running" {
		metadata = map[string]any{"post_deployment_info": map[string]string{"flyctl_version": "release", "error": errText}}
	}
	req := call{op: "record that release " + id + " is " + status, method: http.MethodPatch, uiex: true, unbooked: true, path: []string{"releases", id}}
	req.body = encode(map[string]any{"status": status, "metadata": metadata})
	return c.do(ctx, req, nil)
}

// Releases lists the newest Fly releases of app, newest first.
func (c *Client) Releases(ctx context.Context, app string) ([]FlyRelease, error) {
	var out struct {
		Releases []FlyRelease `json:"releases"`
	}
	req := call{op: "list releases of " + cmp.Or(app, "?"), method: http.MethodGet, uiex: true, unbooked: true,
		path: []string{"apps", app, "releases"}, query: url.Values{"limit": {"25"}}}
	err := c.do(ctx, req, &out)
	return out.Releases, err
}

package fly

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/microbima/release/internal/rawjson"
)

// ClientVersion is sent where flyctl sends its version: at the end of a Fly
// release, and in the metadata fly_flyctl_version of machines. flyctl does not
// parse it.
const ClientVersion = "release"

// A NewRelease is a Fly release to record.
type NewRelease struct {
	App      string
	Image    string
	Strategy string // rolling, canary, bluegreen, immediate; "" is rolling
	// Definition is fly.toml as JSON, as flyctl sends it; flyctl config show
	// and save print it. If empty, they print an app without settings.
	Definition json.RawMessage
}

// A FlyRelease is Fly's record of a release, as listed by flyctl releases.
type FlyRelease struct {
	ID         string    `json:"id"`
	Version    int       `json:"version"`  // increases by 1 per app
	Status     string    `json:"status"`   // pending, running, complete, failed, interrupted
	Strategy   string    `json:"strategy"` // in upper case
	ImageRef   string    `json:"image_ref"`
	User       string    `json:"user"`
	Stable     bool      `json:"stable"`
	InProgress bool      `json:"in_progress"`
	CreatedAt  time.Time `json:"created_at,omitzero"`
}

// CreateRelease records a new Fly release. Its status is pending until
// UpdateRelease. A second call records a second one: after ErrUnknownOutcome
// look for it in Releases first.
func (c *Client) CreateRelease(ctx context.Context, in NewRelease) (FlyRelease, error) {
	req := call{op: "create a Fly release of " + in.App, method: http.MethodPost, uiex: true, unlimited: true, path: []string{"releases"}}
	definition := in.Definition
	if len(definition) == 0 {
		definition = json.RawMessage("{}")
	}
	if !json.Valid(definition) {
		return FlyRelease{}, &Error{Op: req.op, mutation: true, unsent: true, kind: ErrInvalid, cause: errors.New("the definition is not JSON")}
	}
	req.body = rawjson.MustMarshal(map[string]any{
		"app_name": in.App, "build_id": 0, "definition": definition, "image": in.Image, "strategy": strings.ToUpper(cmp.Or(in.Strategy, "rolling")),
	})
	var out struct {
		Release FlyRelease `json:"release"`
	}
	if err := c.do(ctx, req, &out); err != nil {
		return FlyRelease{}, err
	}
	if out.Release.ID == "" {
		return FlyRelease{}, missingField(req, "id")
	}
	return out.Release, nil
}

// UpdateRelease sets the status of a Fly release, running, complete, failed or
// interrupted, with errText as the reason. It may be called twice. ErrInvalid:
// there is no such status.
func (c *Client) UpdateRelease(ctx context.Context, id, status, errText string) error {
	var metadata any
	if status != "running" {
		metadata = map[string]any{"post_deployment_info": map[string]string{"flyctl_version": ClientVersion, "error": errText}}
	}
	req := call{op: "set Fly release " + id + " to " + status, method: http.MethodPatch, uiex: true, unlimited: true, path: []string{"releases", id}}
	req.body = rawjson.MustMarshal(map[string]any{"status": status, "metadata": metadata})
	return c.do(ctx, req, nil)
}

// Releases lists the newest 25 Fly releases of app, newest first.
func (c *Client) Releases(ctx context.Context, app string) ([]FlyRelease, error) {
	var out struct {
		Releases []FlyRelease `json:"releases"`
	}
	req := call{op: "list Fly releases of " + app, method: http.MethodGet, uiex: true, unlimited: true,
		path: []string{"apps", app, "releases"}, query: url.Values{"limit": {"25"}}}
	err := c.do(ctx, req, &out)
	slices.SortFunc(out.Releases, func(a, b FlyRelease) int { return cmp.Compare(b.Version, a.Version) })
	return out.Releases, err
}

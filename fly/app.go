package fly

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/microbima/release/internal/rawjson"
)

// An App is a Fly app.
type App struct {
	ID           string
	Name         string
	Status       string // pending before the first deploy; deployed, suspended
	URL          string // https://<app>.fly.dev
	Hostname     string
	Organization string // slug
	// Definition is the fly.toml of the current Fly release, as JSON; flyctl
	// config show prints it. Nil if there is none, or if the token may not read
	// it.
	Definition json.RawMessage
}

// A Secret is the visible part of an app secret: Fly never returns its value.
type Secret struct {
	Name      string    `json:"name"`
	Digest    string    `json:"digest"` // changes with the value
	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// A LogLine is one line of a machine's output or of Fly's messages about it.
type LogLine struct {
	At       time.Time `json:"timestamp,omitzero"`
	Message  string    `json:"message"`
	Level    string    `json:"level"`
	Instance string    `json:"instance"` // machine ID
	Region   string    `json:"region"`
}

// App returns the Fly app of that name. ErrNotFound: it does not exist.
// ErrUnauthorized: the token has no access to it.
func (c *Client) App(ctx context.Context, app string) (App, error) {
	var in struct {
		ID           string `json:"id"`
		Name         string `json:"name"`
		Status       string `json:"status"`
		Organization struct {
			Slug string `json:"slug"`
		} `json:"organization"`
	}
	var q struct {
		App *struct {
			Hostname string `json:"hostname"`
			AppURL   string `json:"appUrl"`
			Config   struct {
				Definition json.RawMessage `json:"definition"`
			} `json:"config"`
		} `json:"app"`
	}
	op := "look up app " + app
	queried := make(chan error, 1)
	go func() {
		queried <- c.queryGraphQL(ctx, op, `query($name: String!) { app(name: $name) { hostname appUrl config { definition } } }`, map[string]any{"name": app}, &q)
	}()
	err := c.do(ctx, call{op: op, action: "app", app: app, method: http.MethodGet, path: []string{"apps", app}}, &in)
	queryErr := <-queried
	if err != nil {
		return App{}, err
	}
	if queryErr != nil && !errors.Is(queryErr, ErrUnauthorized) { // a token that covers only machines is enough
		return App{}, queryErr
	}
	out := App{ID: in.ID, Name: cmp.Or(in.Name, app), Status: in.Status, Organization: in.Organization.Slug}
	out.Hostname = app + ".fly.dev"
	if q.App != nil {
		out.Hostname = cmp.Or(q.App.Hostname, out.Hostname)
		out.URL = q.App.AppURL
		if d := nullToNil(q.App.Config.Definition); string(d) != "{}" {
			out.Definition = d
		}
	}
	out.URL = cmp.Or(out.URL, "https://"+out.Hostname)
	return out, nil
}

// Secrets lists the secrets of app, without their values.
func (c *Client) Secrets(ctx context.Context, app string) ([]Secret, error) {
	var out struct {
		Secrets []Secret `json:"secrets"`
	}
	err := c.do(ctx, call{op: "list secrets of " + app, action: "secrets", app: app, method: http.MethodGet, path: []string{"apps", app, "secrets"}}, &out)
	return out.Secrets, err
}

// missingSecretName is the name of a secret that no app has.
const missingSecretName = "RELEASE_READS_THE_VERSION_OF_SECRETS"

// SecretsVersion returns the version of the app's secrets, for
// MinSecretsVersion: a machine created with it has every secret set before. Fly
// returns the version only in response to a change, so, like flyctl, this
// deletes a secret that does not exist. That changes no secret and may be
// repeated; the version may grow by it, but never shrinks. 0: the app never had
// secrets. ErrUnauthorized: the token may not change secrets.
func (c *Client) SecretsVersion(ctx context.Context, app string) (uint64, error) {
	req := call{op: "read the secrets version of " + app, action: "secrets version", app: app,
		method: http.MethodPost, read: true, path: []string{"apps", app, "secrets"}}
	req.body = rawjson.MustMarshal(map[string]any{"values": map[string]any{missingSecretName: nil}})
	var out struct {
		Version uint64 `json:"version"`
	}
	err := c.do(ctx, req, &out)
	return out.Version, err
}

// Logs returns the newest lines of a machine's log, oldest first.
func (c *Client) Logs(ctx context.Context, app, machine string) ([]LogLine, error) {
	var out struct {
		Data []struct {
			Attributes LogLine `json:"attributes"`
		} `json:"data"`
	}
	req := call{op: "read the log of machine " + machine, method: http.MethodGet, api: true, unlimited: true,
		path: []string{"api", "v1", "apps", app, "logs"}, query: url.Values{"instance": {machine}}}
	if err := c.do(ctx, req, &out); err != nil {
		return nil, err
	}
	lines := make([]LogLine, len(out.Data))
	for i, d := range out.Data {
		lines[i] = d.Attributes
	}
	return lines, nil
}

// queryGraphQL sends one query and decodes its data into out. A response with
// errors becomes an Error without HTTP status, of kind ErrUnauthorized or
// ErrNotFound if Fly's code says so.
func (c *Client) queryGraphQL(ctx context.Context, op, query string, variables map[string]any, out any) error {
	answer := struct {
		Data   any `json:"data"`
		Errors []struct {
			Message    string `json:"message"`
			Extensions struct {
				Code string `json:"code"`
			} `json:"extensions"`
		} `json:"errors"`
	}{Data: out}
	req := call{op: op, method: http.MethodPost, api: true, read: true, unlimited: true, path: []string{"graphql"}}
	req.body = rawjson.MustMarshal(map[string]any{"query": query, "variables": variables})
	if err := c.do(ctx, req, &answer); err != nil {
		return err
	}
	if len(answer.Errors) == 0 {
		return nil
	}
	first := answer.Errors[0]
	fail := &Error{Op: op, Code: first.Extensions.Code, Message: c.redactTokens(first.Message), kind: ErrInvalid}
	switch first.Extensions.Code {
	case "UNAUTHORIZED", "FORBIDDEN":
		fail.Status = http.StatusForbidden
	case "NOT_FOUND":
		fail.Status = http.StatusNotFound
	}
	return fail
}

// Package greeting asks internal-api, for the services that stand in front of
// it.
package greeting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Greeting is what internal-api says, and which machine said it.
type Greeting struct {
	Message string `json:"message"`
	Name    string `json:"name"`
	Machine string `json:"machine,omitempty"`
	Region  string `json:"region,omitempty"`
}

// A Client asks one internal-api.
type Client struct {
	base *url.URL
	http *http.Client
}

// NewClient returns a client of the internal-api at base, which is
// INTERNAL_API_URL. It sends nothing yet.
func NewClient(base string) (*Client, error) {
	if base == "" {
		return nil, errors.New("INTERNAL_API_URL is missing; it should be http://HOST:PORT of internal-api")
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("INTERNAL_API_URL is %q; it should be http://HOST:PORT of internal-api", base)
	}
	return &Client{base: u, http: &http.Client{Timeout: 3 * time.Second}}, nil
}

// URL is where the client asks, for people.
func (c *Client) URL() string { return c.base.Redacted() }

// Greet asks for a greeting of name. Any answer but 200 is an error that
// carries internal-api's own words.
func (c *Client) Greet(ctx context.Context, name string) (Greeting, error) {
	u := c.base.JoinPath("v1", "greeting")
	u.RawQuery = url.Values{"name": {name}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Greeting{}, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Greeting{}, fmt.Errorf("ask internal-api: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return Greeting{}, fmt.Errorf("ask internal-api: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return Greeting{}, fmt.Errorf("ask internal-api: %s: %s", res.Status, strings.TrimSpace(string(body)))
	}
	var g Greeting
	if err := json.Unmarshal(body, &g); err != nil {
		return Greeting{}, fmt.Errorf("ask internal-api: the answer is no greeting: %w", err)
	}
	return g, nil
}

// Package greeting is a client of internal-api.
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

// A Greeting is an answer of internal-api, with the machine that sent it.
type Greeting struct {
	Message string `json:"message"`
	Name    string `json:"name"`
	Machine string `json:"machine,omitempty"`
	Region  string `json:"region,omitempty"`
}

// A Client calls one internal-api.
type Client struct {
	base *url.URL
	http *http.Client
}

// NewClient returns a client of the internal-api at base, the value of INTERNAL_API_URL.
// It sends no request.
func NewClient(base string) (*Client, error) {
	if base == "" {
		return nil, errors.New("INTERNAL_API_URL is missing; must be http://HOST:PORT of internal-api")
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("INTERNAL_API_URL is %q; must be http://HOST:PORT of internal-api", base)
	}
	return &Client{base: u, http: &http.Client{Timeout: 3 * time.Second}}, nil
}

// URL returns the address of internal-api, without a password.
func (c *Client) URL() string { return c.base.Redacted() }

// Greet returns a greeting of name. If the status is not 200, the error has the body of
// the answer.
func (c *Client) Greet(ctx context.Context, name string) (Greeting, error) {
	u := c.base.JoinPath("v1", "greeting")
	u.RawQuery = url.Values{"name": {name}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Greeting{}, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Greeting{}, fmt.Errorf("call internal-api: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return Greeting{}, fmt.Errorf("call internal-api: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return Greeting{}, fmt.Errorf("call internal-api: %s: %s", res.Status, strings.TrimSpace(string(body)))
	}
	var g Greeting
	if err := json.Unmarshal(body, &g); err != nil {
		return Greeting{}, fmt.Errorf("call internal-api: the answer is not a greeting: %w", err)
	}
	return g, nil
}

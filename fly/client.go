package fly

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/superfly/fly-go/flaps"
	"github.com/superfly/fly-go/tokens"
)

// Where Fly is, unless a Client says otherwise.
const (
	DefaultFlapsURL = "https://api.machines.dev"
	DefaultAPIURL   = "https://api.fly.io"
	DefaultRegistry = "registry.fly.io"
)

// A Client talks to one Fly with one token. Its fields may be set before first
// use; it is safe for concurrent use.
type Client struct {
	FlapsURL string       // the Machines API; "" is DefaultFlapsURL
	APIURL   string       // GraphQL and logs; "" is DefaultAPIURL
	UIEXURL  string       // Fly releases; "" is DefaultAPIURL
	Token    string       // as fly tokens create prints it, or several with commas
	HTTP     *http.Client // nil is one of its own. Redirects are never followed
	// Unlimited switches off the limiter that keeps Fly's published limits once
	// Fly has answered 429.
	Unlimited bool

	once   sync.Once
	err    error // of setting up
	tokens *tokens.Tokens
	flaps  *flaps.Client // makes requests; never sends them, for it re-sends by itself
	http   *http.Client
	limits limits
	lists  sharedLists
}

// FromEnv makes a client from the variables that flyctl reads:
// FLY_FLAPS_BASE_URL, FLY_API_BASE_URL, FLY_UIEX_BASE_URL, FLY_ACCESS_TOKEN,
// FLY_API_TOKEN.
func FromEnv(getenv func(string) string) *Client {
	return &Client{
		FlapsURL: getenv("FLY_FLAPS_BASE_URL"),
		APIURL:   getenv("FLY_API_BASE_URL"),
		UIEXURL:  getenv("FLY_UIEX_BASE_URL"),
		Token:    cmp.Or(getenv("FLY_ACCESS_TOKEN"), getenv("FLY_API_TOKEN")),
	}
}

// Registry is the host of Fly's image registry: FLY_REGISTRY_HOST or
// DefaultRegistry. It takes the user name "x" and RegistryPassword.
func Registry(getenv func(string) string) string {
	return cmp.Or(getenv("FLY_REGISTRY_HOST"), DefaultRegistry)
}

// RegistryPassword is what Fly's registry takes for token: its macaroons, if
// it has any, without the word before them.
func RegistryPassword(token string) string {
	return tokens.Parse(token).Docker()
}

// Tokens are the parts of a token, each of which opens something by itself: its
// macaroons, and users' tokens.
func Tokens(token string) []string {
	t := tokens.Parse(token)
	return append(t.GetMacaroonTokens(), t.GetUserTokens()...)
}

// begin sets up what the fields imply.
func (c *Client) initialize() error {
	c.once.Do(func() {
		c.tokens = tokens.Parse(c.Token)
		c.flaps, c.err = flaps.NewWithOptions(context.Background(), flaps.NewClientOpts{Tokens: c.tokens})
		c.http = newHTTPClient(c.HTTP)
	})
	return c.err
}

// ownHTTP is a client that sends a request once: it follows no redirect, and
// has no transport that tries again.
func newHTTPClient(given *http.Client) *http.Client {
	own := &http.Client{}
	if given != nil {
		*own = *given
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = 64
		t.ResponseHeaderTimeout = 2 * time.Minute // the longest answer is a wait of one
		own.Transport = t
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return own
}

// without removes the token from text that came from elsewhere.
func (c *Client) redactTokens(text string) string {
	for _, t := range append(c.tokens.GetMacaroonTokens(), c.tokens.GetUserTokens()...) {
		if t != "" {
			text = strings.ReplaceAll(text, t, "[token]")
		}
	}
	return text
}

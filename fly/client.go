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

// Addresses of Fly's APIs and registry, used where a Client sets none.
const (
	DefaultFlapsURL = "https://api.machines.dev"
	DefaultAPIURL   = "https://api.fly.io"
	DefaultRegistry = "registry.fly.io"
)

// A Client sends requests to Fly's APIs with one token. Its exported fields may
// be set before the first call. It is safe for concurrent use.
type Client struct {
	FlapsURL string       // the Machines API; "" is DefaultFlapsURL
	APIURL   string       // GraphQL and logs; "" is DefaultAPIURL
	UIEXURL  string       // Fly releases; "" is DefaultAPIURL
	Token    string       // as printed by fly tokens create; several are separated by commas
	HTTP     *http.Client // nil: a client of its own. Redirects are never followed
	// Unlimited disables the limiter, which keeps Fly's published limits after
	// Fly has answered 429.
	Unlimited bool

	once   sync.Once
	err    error // error of initialize
	tokens *tokens.Tokens
	flaps  *flaps.Client // builds requests; does not send them, because it would retry
	http   *http.Client
	limits limits
	lists  sharedLists
}

// FromEnv returns a client configured by the env vars that flyctl reads:
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

// Registry returns the host of Fly's image registry: FLY_REGISTRY_HOST or
// DefaultRegistry. Log in with user name "x" and RegistryPassword.
func Registry(getenv func(string) string) string {
	return cmp.Or(getenv("FLY_REGISTRY_HOST"), DefaultRegistry)
}

// RegistryPassword returns the password for Fly's registry: the macaroons of
// token if it has any, without their "FlyV1" prefix, else token.
func RegistryPassword(token string) string {
	return tokens.Parse(token).Docker()
}

// Tokens splits a token into the macaroons and user tokens that it consists of.
// Each of them grants access by itself.
func Tokens(token string) []string {
	t := tokens.Parse(token)
	return append(t.GetMacaroonTokens(), t.GetUserTokens()...)
}

// initialize sets the unexported fields from the exported ones, once.
func (c *Client) initialize() error {
	c.once.Do(func() {
		c.tokens = tokens.Parse(c.Token)
		c.flaps, c.err = flaps.NewWithOptions(context.Background(), flaps.NewClientOpts{Tokens: c.tokens})
		c.http = newHTTPClient(c.HTTP)
	})
	return c.err
}

// newHTTPClient returns a copy of given, or a client of our own, that sends a
// request once: it neither follows redirects nor retries.
func newHTTPClient(given *http.Client) *http.Client {
	own := &http.Client{}
	if given != nil {
		*own = *given
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxIdleConnsPerHost = 64
		t.ResponseHeaderTimeout = 2 * time.Minute // the slowest response is that of a wait, one minute
		own.Transport = t
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return own
}

// redactTokens replaces every token of the client in text from elsewhere.
func (c *Client) redactTokens(text string) string {
	for _, t := range append(c.tokens.GetMacaroonTokens(), c.tokens.GetUserTokens()...) {
		if t != "" {
			text = strings.ReplaceAll(text, t, "[token]")
		}
	}
	return text
}

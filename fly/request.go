package fly

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits for what is read of a response.
const (
	maxAnswer  = 16 << 20
	maxMessage = 2 << 10
)

const nonceHeader = "fly-machine-lease-nonce"

// A call describes one request.
type call struct {
	op        string // for messages: "update machine 3d8d…"
	action    string // for the limiter
	app       string
	machine   string
	method    string
	path      []string // below the API's root; elements are escaped
	query     url.Values
	body      []byte
	nonce     string
	read      bool   // changes nothing, although it may be a POST
	uiex      bool   // below /api/v1 of the release records API
	api       bool   // below the root of the GraphQL and logs API
	unlimited bool   // not subject to the limiter
	onSend    func() // called right before the request is sent; may be nil
}

func (in call) isMutation() bool { return !in.read && in.method != http.MethodGet }

// do sends the request once and decodes the response into out.
func (c *Client) do(ctx context.Context, in call, out any) error {
	fail := &Error{Op: in.op, mutation: in.isMutation(), unsent: true}
	req, err := c.newRequest(ctx, in)
	if err != nil {
		fail.cause, fail.kind = err, ErrInvalid
		return fail
	}
	key, isLimited := limitKey{in.app, in.machine, cmp.Or(in.action, in.method)}, !c.Unlimited && !in.unlimited
	if isLimited {
		if err := c.limits.wait(ctx, key); err != nil {
			return limitError(ctx, fail, err)
		}
	}
	if in.onSend != nil {
		in.onSend()
	}
	if in.isMutation() {
		through, end := mutationContext(ctx)
		defer end()
		req = req.WithContext(through)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		fail.cause, fail.unsent = c.redactError(err), isDialError(err)
		return fail
	}
	defer resp.Body.Close()
	err = c.readResponse(resp, out, fail)
	if isLimited && errors.Is(err, ErrRateLimited) {
		c.limits.startPacing(key, fail.RetryAfter)
	}
	return err
}

// readResponse decodes the body of a successful response into out, unless out is nil.
// For any other response it returns fail, with the status, code and message added.
func (c *Client) readResponse(resp *http.Response, out any, fail *Error) error {
	fail.unsent = false
	fail.RequestID = resp.Header.Get("fly-request-id")
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	tooLong := err == nil && len(body) > maxAnswer
	if tooLong {
		err = fmt.Errorf("the answer is longer than %d MB", maxAnswer>>20)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		fail.Status = resp.StatusCode
		fail.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"))
		c.readErrorBody(body, fail)
		return fail
	}
	if err != nil {
		fail.cause, fail.kind = err, ErrMalformed
		if tooLong && !fail.mutation {
			fail.kind = ErrTooLong
		}
		return fail
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		fail.cause = fmt.Errorf("decode the response of %d bytes: %w", len(body), err)
		fail.kind = ErrMalformed
		return fail
	}
	return nil
}

// cancelGrace is how long a change that was sent may continue after its caller
// has cancelled: less than Temporal's heartbeat timeout of the calling
// activity.
const cancelGrace = 7 * time.Second

// mutationContext returns a context for a request that changes something. It
// outlives ctx by cancelGrace: if the request were cut off, the change could
// still be made after the caller has read the state.
func mutationContext(ctx context.Context) (context.Context, func()) {
	through, end := context.WithCancelCause(context.WithoutCancel(ctx))
	late := time.AfterFunc(time.Hour, func() { end(ctx.Err()) })
	late.Stop()
	stop := context.AfterFunc(ctx, func() { late.Reset(cancelGrace) })
	return through, func() { stop(); late.Stop(); end(nil) }
}

// missingField returns the error for a success without a required field.
func missingField(in call, field string) error {
	return &Error{Op: in.op, mutation: in.isMutation(), kind: ErrMalformed, cause: fmt.Errorf("the response has no %s", field)}
}

// limitError returns the error for a request that the limiter did not let
// through.
func limitError(ctx context.Context, fail *Error, err error) error {
	fail.cause, fail.kind = err, ErrRateLimited
	if ctx.Err() != nil {
		fail.cause = ctx.Err()
	}
	return fail
}

// newRequest returns the request as fly-go would send it, with its headers and
// the token in the form that the API expects, but with our own URL.
func (c *Client) newRequest(ctx context.Context, in call) (*http.Request, error) {
	if err := c.initialize(); err != nil {
		return nil, err
	}
	for _, p := range in.path {
		if p == "" || p == "." || p == ".." {
			return nil, fmt.Errorf("%q is not a valid name", p)
		}
	}
	req, err := c.flaps.NewRequest(ctx, in.method, "/", nil, nil)
	if err != nil {
		return nil, err
	}
	base, prefix := cmp.Or(c.FlapsURL, DefaultFlapsURL), "/v1"
	if in.uiex {
		base, prefix = cmp.Or(c.UIEXURL, DefaultAPIURL), "/api/v1"
		req.Header.Set("Authorization", "Bearer "+c.tokens.All())
	} else if in.api {
		base, prefix = cmp.Or(c.APIURL, DefaultAPIURL), ""
		req.Header.Set("Authorization", c.tokens.GraphQLHeader())
	}
	req.URL, err = url.Parse(strings.TrimRight(base, "/") + prefix + "/" + strings.Join(escapePath(in.path), "/"))
	if err != nil || req.URL.Host == "" {
		return nil, fmt.Errorf("%q is not the URL of an API; use one like %s", base, DefaultFlapsURL)
	}
	req.URL.RawQuery = in.query.Encode()
	req.Host = ""
	req.Header.Set("User-Agent", "release (github.com/microbima/release)")
	req.Header.Set("Accept", "application/json")
	if in.nonce != "" {
		req.Header.Set(nonceHeader, in.nonce)
	}
	if in.body != nil {
		req.Header.Set("Content-Type", "application/json")
		// GetBody lets the transport use another connection when it could not
		// write a single byte to the first. It does not retry after that.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(in.body)), nil }
		req.Body, _ = req.GetBody()
		req.ContentLength = int64(len(in.body))
	}
	return req, nil
}

func escapePath(path []string) []string {
	out := make([]string, len(path))
	for i, p := range path {
		out[i] = url.PathEscape(p)
	}
	return out
}

// readErrorBody sets code and message of fail from Fly's error response, or the
// message to its text.
func (c *Client) readErrorBody(body []byte, fail *Error) {
	var e struct{ Error, Message, Status string }
	message := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &e) == nil && cmp.Or(e.Message, e.Error) != "" {
		message = cmp.Or(e.Message, e.Error)
	}
	if in := strings.ToLower(string(body)); e.Status == "insufficient_capacity" || slices.ContainsFunc(capacityMessages, func(message string) bool { return strings.Contains(in, message) }) {
		fail.kind = ErrNoCapacity
	}
	if len(message) > maxMessage {
		message = message[:maxMessage] + "…"
	}
	fail.Code, fail.Message = e.Status, c.redactTokens(strings.ToValidUTF8(message, "?"))
}

// capacityMessages are the messages, in lower case, by which Fly reports
// without a status code that a host has no capacity. They come with any HTTP
// status and before any change. flyctl compares the text as well.
var capacityMessages = []string{"could not reserve resource", "deploys to this host are temporarily disabled"}

// redactError returns the cause of an error of the HTTP client, without method,
// address and token.
func (c *Client) redactError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if s := err.Error(); c.redactTokens(s) != s {
		return errors.New(c.redactTokens(s))
	}
	return err
}

// parseRetryAfter parses the header in either of its forms; 0 if there is none.
func parseRetryAfter(h string) time.Duration {
	if s, err := strconv.ParseFloat(h, 64); err == nil && s >= 0 && s < 1e6 {
		return time.Duration(s * float64(time.Second))
	}
	if t, err := http.ParseTime(h); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// appendConfig adds a machine config to an encoded object unchanged: the
// encoder would reformat it.
func appendConfig(object []byte, config json.RawMessage) ([]byte, error) {
	if !json.Valid(config) {
		return nil, errors.New("the machine config is not JSON")
	}
	object = bytes.TrimSuffix(object, []byte("}"))
	if len(object) > 1 {
		object = append(object, ',')
	}
	object = append(object, `"config":`...)
	object = append(object, config...)
	return append(object, '}'), nil
}

// Package google asks Google which places are near a point: with Places API (New), which is
// the provider google, or with the earlier Nearby Search, which is google-legacy.
//
// It knows nothing of budgets, other providers and edges. It stores nothing of Google's
// answers, which Google's terms forbid.
//
// The key is sent to Google and appears nowhere else: no error of this package contains it,
// even if Google or its stand-in echoes it.
package google

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"herd/places"
)

// Config configures the access to Google.
type Config struct {
	Key    string // letters, digits and characters that need no quoting
	URL    string // base URL of a stand-in for Google; empty means Google
	Fields string // field mask of Places API (New); empty means DefaultFields
}

// most is the maximum number of places to ask for; Google has the same limit.
const most = 20

// maxBody bounds an answer, decompressed. 20 places with all their fields, reviews included,
// take less than a tenth of it.
const maxBody = 4 << 20

// api is what both providers share.
type api struct {
	name   string
	base   *url.URL
	key    func() string // a function, because printing a struct never shows what it returns
	client *http.Client
}

func newAPI(name string, cfg Config, base string) (*api, error) {
	if cfg.URL != "" {
		base = cfg.URL
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("base URL: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // verifies TLS, uses HTTP/2, gzip and the environment's proxies
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.MaxIdleConnsPerHost = 16
	return &api{name, u, func() string { return cfg.Key }, &http.Client{
		Transport: transport,
		// Google does not redirect. A server that does would be sent the key.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Name returns the provider's name in HERD_PLACES.
func (a *api) Name() string { return a.name }

// Close closes idle connections.
func (a *api) Close() error {
	a.client.CloseIdleConnections()
	return nil
}

// do sends a request and returns the body of the answer, which is JSON. Its errors do not
// show the key.
func (a *api) do(ctx context.Context, r *http.Request) ([]byte, error) {
	r.Header.Set("Accept", "application/json")
	response, err := a.client.Do(r)
	if err != nil {
		return nil, a.failure(ctx, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, a.failure(ctx, err)
	case response.StatusCode != http.StatusOK:
		return nil, a.refusal(response.StatusCode, body)
	case len(body) > maxBody:
		return nil, a.errorf("an answer of more than %d bytes", maxBody)
	}
	if kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, a.errorf("an answer of the type %q, which is not JSON", cut(response.Header.Get("Content-Type")))
	}
	// Shorter keys are not Google's and might occur in any text.
	if key := a.key(); len(key) >= 8 && bytes.Contains(body, []byte(key)) {
		return nil, a.errorf("an answer that shows the key")
	}
	return bytes.ToValidUTF8(body, []byte("\uFFFD")), nil
}

// failure returns why there is no answer. Its chain has the cause of ctx's end and nothing
// else: the errors of net/http hold the URL that was requested, and with it the key.
func (a *api) failure(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded // the transport noticed first
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return a.errorf("%v", err)
}

// refusal turns an HTTP status other than 200 into the failure that C16 names. The text of
// the body is only for the log: some of it is for the operator alone.
func (a *api) refusal(status int, body []byte) error {
	kind := places.ErrUnknown
	switch status {
	case http.StatusBadRequest:
		kind = places.ErrInvalid
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = places.ErrDenied
	case http.StatusTooManyRequests:
		kind = places.ErrOverQuota
	}
	var said struct {
		Error struct {
			Status, Message string
			Details         []struct{ Reason string }
		}
	}
	words := ""
	if json.Unmarshal(body, &said) == nil && said.Error.Message != "" {
		// Google answers 400 to an invalid key, as to an invalid question.
		if kind == places.ErrInvalid && strings.HasPrefix(said.Error.Message, "API key ") {
			kind = places.ErrDenied
		}
		for _, d := range said.Error.Details {
			if kind == places.ErrInvalid && strings.HasPrefix(d.Reason, "API_KEY_") {
				kind = places.ErrDenied
			}
		}
		words = ": " + said.Error.Status + ": " + said.Error.Message
	}
	return fmt.Errorf("%w: %w", kind, a.errorf("HTTP %d%s", status, words))
}

// errorf is like fmt.Errorf, without any key of Google's, and cut if a body made the text
// long. It wraps nothing.
func (a *api) errorf(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if key := a.key(); key != "" {
		text = strings.NewReplacer(key, "[secret]", url.QueryEscape(key), "[secret]").Replace(text)
	}
	return errors.New(cut(anyKey.ReplaceAllLiteralString(text, "[secret]")))
}

// anyKey matches Google's keys.
var anyKey = regexp.MustCompile(`AIza[0-9A-Za-z_-]{16,}`)

func cut(text string) string {
	const longest = 300
	if len(text) > longest {
		return strings.ToValidUTF8(text[:longest], "") + "..."
	}
	return text
}

// parse parses a body, which must be an object, into v.
func (a *api) parse(body []byte, v any) error {
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return a.errorf("parse the answer: not a JSON object")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return a.errorf("parse the answer: %v", err)
	}
	return nil
}

// Package google asks Google what is near a point: by Places API (New), which is the
// provider google, or by the Nearby Search that came before it, google-legacy.
//
// It knows nothing of budgets, of who else could be asked, and of edges. It keeps
// nothing of what Google answers, which Google's terms forbid.
//
// The key is in what goes to Google and nowhere else: no error of this package has it,
// not even where Google, or who stands in for it, echoes it.
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
	"strings"
	"time"

	"herd/places"
)

// Config says how to ask Google.
type Config struct {
	Key    string // of letters, digits and what needs no quoting
	URL    string // base address of whoever stands in for Google; empty is Google
	Fields string // field mask of Places API (New); empty is DefaultFields
}

// most is how many places are asked for at most; Google has a limit of as many.
const most = 20

// maxBody bounds an answer, unpacked: 20 places with all that Google knows of them,
// reviews and all, are less than a tenth of it.
const maxBody = 4 << 20

// api is what both providers have in common.
type api struct {
	name   string
	base   *url.URL
	key    func() string // a function, because no dump of a struct shows what it holds
	client *http.Client
}

func newAPI(name string, cfg Config, base string) (*api, error) {
	if cfg.URL != "" {
		base = cfg.URL
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("base address: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // TLS verified, HTTP/2, gzip, proxies of the environment
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.MaxIdleConnsPerHost = 16
	return &api{name, u, func() string { return cfg.Key }, &http.Client{
		Transport: transport,
		// Google does not redirect. Who does would be handed the key.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Name returns the name that HERD_PLACES has for the provider.
func (a *api) Name() string { return a.name }

// Close lets go of the connections that are idle.
func (a *api) Close() error {
	a.client.CloseIdleConnections()
	return nil
}

// do sends a request and returns the body of its answer, which is JSON. Its errors show
// no key.
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
	// Shorter ones are no keys of Google's, and might be anywhere.
	if key := a.key(); len(key) >= 8 && bytes.Contains(body, []byte(key)) {
		return nil, a.errorf("an answer that shows the key")
	}
	return bytes.ToValidUTF8(body, []byte("\uFFFD")), nil
}

// failure says why there is no answer. What ended ctx is in its chain, and nothing else:
// the errors of net/http hold the address that was asked, and with it the key.
func (a *api) failure(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded // the transport was first to notice
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return a.errorf("%v", err)
}

// refusal turns an HTTP status that is not 200 into the failure that C16 has for it. The
// words of the body are for the log: some of them are the operator's business alone.
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
		Error struct{ Status, Message string }
	}
	words := ""
	if json.Unmarshal(body, &said) == nil && said.Error.Message != "" {
		words = ": " + said.Error.Status + ": " + said.Error.Message
	}
	return fmt.Errorf("%w: %w", kind, a.errorf("HTTP %d%s", status, words))
}

// errorf is fmt.Errorf without the key, and cut where a body made it long. It wraps
// nothing.
func (a *api) errorf(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if key := a.key(); key != "" {
		text = strings.NewReplacer(key, "[secret]", url.QueryEscape(key), "[secret]").Replace(text)
	}
	return errors.New(cut(text))
}

func cut(text string) string {
	const longest = 300
	if len(text) > longest {
		return strings.ToValidUTF8(text[:longest], "") + "..."
	}
	return text
}

// parse reads a body, which is an object, into v.
func (a *api) parse(body []byte, v any) error {
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return a.errorf("read the answer: it is no JSON object")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return a.errorf("read the answer: %v", err)
	}
	return nil
}

package google

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"herd/places"
	"herd/places/nearby"
)

// Legacy is the Nearby Search of the Places API before the new one,
// https://developers.google.com/maps/documentation/places/web-service/search-nearby. It
// is a places.Provider. Since October 2026 Google enables it for no new project; those
// that have it keep it. It chooses by prominence and may go beyond the radius: what it
// says is passed on as it came.
type Legacy struct{ *api }

// NewLegacy returns the API. The error is for a base address that is none.
func NewLegacy(cfg Config) (*Legacy, error) {
	a, err := newAPI("google-legacy", cfg, "https://maps.googleapis.com")
	if err != nil {
		return nil, err
	}
	return &Legacy{a}, nil
}

// legacyStatuses are the statuses that are failures. Any other than these, OK and
// ZERO_RESULTS is one that this API does not have.
var legacyStatuses = map[string]*places.Error{
	"INVALID_REQUEST":  places.ErrInvalid,
	"OVER_QUERY_LIMIT": places.ErrOverQuota,
	"OVER_DAILY_LIMIT": places.ErrOverQuota, // its elder siblings' word for a limit that is the operator's own
	"REQUEST_DENIED":   places.ErrDenied,
	"UNKNOWN_ERROR":    places.ErrUnknown,
}

// Nearby asks for the places around the point (places.Provider).
func (l *Legacy) Nearby(ctx context.Context, q places.Query) (nearby.Answer, error) {
	u := l.base.JoinPath("/maps/api/place/nearbysearch/json")
	u.RawQuery = url.Values{
		"location": {number(q.Lat) + "," + number(q.Lon)},
		"radius":   {number(q.Radius * 1000)}, // metres
		"key":      {l.key()},
	}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nearby.Answer{}, l.failure(ctx, err)
	}
	body, err := l.do(ctx, r)
	if err != nil {
		return nearby.Answer{}, err
	}
	return l.read(body, q.Max)
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// read takes an answer apart as far as it must be: into its places, each as it came, and
// whatever else is there.
func (l *Legacy) read(body []byte, most int) (nearby.Answer, error) {
	var members map[string]json.RawMessage
	var said struct {
		HTMLAttributions []string          `json:"html_attributions"`
		Results          []json.RawMessage `json:"results"`
		Status           string            `json:"status"`
		ErrorMessage     string            `json:"error_message"`
	}
	if err := l.parse(body, &members); err != nil {
		return nearby.Answer{}, err
	}
	if err := l.parse(body, &said); err != nil {
		return nearby.Answer{}, err
	}
	if said.Status != string(nearby.OK) && said.Status != string(nearby.ZeroResults) {
		kind, known := legacyStatuses[said.Status]
		if !known {
			kind = places.ErrUnknown
		}
		return nearby.Answer{}, fmt.Errorf("%w: %w", kind, l.errorf("status %q: %s", said.Status, said.ErrorMessage))
	}
	answer := nearby.Answer{HTMLAttributions: said.HTMLAttributions}
	for _, text := range said.Results[:min(len(said.Results), most)] {
		var place nearby.Place
		if err := l.parse(text, &place); err != nil {
			return nearby.Answer{}, err
		}
		place.Raw = oneLine(text)
		answer.Results = append(answer.Results, place)
	}
	answer.Status = nearby.Found(nil, answer.Results).Status
	for _, name := range []string{"html_attributions", "results", "status", "error_message"} {
		delete(members, name)
	}
	answer.Others = others(members)
	return answer, nil
}

// oneLine returns JSON without white space between its tokens, and so without a newline:
// in its texts there are none (C14).
func oneLine(text []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return []byte("null") // never: it was parsed before
	}
	return b.Bytes()
}

// others writes members of an object one after the other, by name.
func others(members map[string]json.RawMessage) []byte {
	var names []string
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	var b []byte
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			continue // never: a text
		}
		b = append(append(append(b, quoted...), ':'), oneLine(members[name])...)
	}
	return b
}

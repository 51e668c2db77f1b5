package google

import (
	"bytes"
	"cmp"
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

// Legacy is the Nearby Search of the earlier Places API,
// https://developers.google.com/maps/documentation/places/web-service/search-nearby. It is a
// places.Provider. Since October 2026 Google does not enable it for new projects; projects
// that have it keep it. It selects places by prominence and may return some beyond the
// radius; its results are passed on unchanged.
type Legacy struct{ *api }

// NewLegacy returns the provider. The error means that the base URL is invalid.
func NewLegacy(cfg Config) (*Legacy, error) {
	a, err := newAPI("google-legacy", cfg, "https://maps.googleapis.com")
	if err != nil {
		return nil, err
	}
	return &Legacy{a}, nil
}

// legacyStatuses are the statuses that mean failure. This API has no statuses other than
// these, OK and ZERO_RESULTS.
var legacyStatuses = map[string]*places.Error{
	"INVALID_REQUEST":  places.ErrInvalid,
	"OVER_QUERY_LIMIT": places.ErrOverQuota,
	"OVER_DAILY_LIMIT": places.ErrOverQuota, // older APIs use it for a limit that the operator has set
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

// read parses an answer as far as needed: into its places, each unchanged, and all other
// members.
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
	var unread error
	for _, text := range said.Results {
		if len(answer.Results) == most {
			break
		}
		place, err := legacyPlace(text)
		if unread = cmp.Or(unread, err); err == nil && place != nil {
			answer.Results = append(answer.Results, *place)
		}
	}
	if len(answer.Results) == 0 && unread != nil {
		return nearby.Answer{}, l.errorf("parse the answer: %v", unread)
	}
	answer.Status = nearby.Found(nil, answer.Results).Status
	for _, name := range []string{"html_attributions", "results", "status", "error_message"} {
		delete(members, name)
	}
	answer.Others = others(members)
	return answer, nil
}

// legacyPlace parses the documented members of a place; all of it is passed on unchanged. It
// returns nil for a place without a position.
func legacyPlace(text json.RawMessage) (*nearby.Place, error) {
	members, err := object(text)
	if err != nil {
		return nil, err
	}
	var geometry struct{ Location *struct{ Lat, Lng float64 } }
	optional(members["geometry"], &geometry)
	if at := geometry.Location; at == nil || !(&latLng{at.Lat, at.Lng}).isOnEarth() {
		return nil, nil
	}
	place := &nearby.Place{Raw: oneLine(text)}
	place.Geometry.Location = nearby.Location{Lat: geometry.Location.Lat, Lng: geometry.Location.Lng}
	optional(members["name"], &place.Name)
	optional(members["place_id"], &place.PlaceID)
	optional(members["types"], &place.Types)
	return place, nil
}

// oneLine returns JSON without white space between its tokens, and so without a newline:
// strings in JSON have none (C14).
func oneLine(text []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return []byte("null") // impossible: it was parsed before
	}
	return b.Bytes()
}

// others writes members of an object, separated by commas and sorted by name.
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
			continue // impossible: it is a string
		}
		b = append(append(append(b, quoted...), ':'), oneLine(members[name])...)
	}
	return b
}

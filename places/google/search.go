package google

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"math"
	"net/http"
	"slices"
	"strings"

	"herd/places"
	"herd/places/nearby"
)

// DefaultFields are the fields of a place that a Nearby Search answer needs and that add
// nothing to the price. Google bills a question by its dearest field, and all of these belong
// to the SKU Nearby Search Pro, the cheapest of Nearby Search (New). Ratings (places.rating,
// places.userRatingCount) belong to the next, Nearby Search Enterprise: operators who want
// them add them in HERD_GOOGLE_FIELDS and pay for them. See "FieldMask" in
// https://developers.google.com/maps/documentation/places/web-service/nearby-search and
// https://developers.google.com/maps/billing-and-pricing/sku-details/places.
const DefaultFields = "places.id,places.displayName,places.location,places.viewport,places.types," +
	"places.shortFormattedAddress,places.businessStatus,places.plusCode,places.attributions"

// Search is Places API (New), https://developers.google.com/maps/documentation/places/web-service/reference/rest/v1/places/searchNearby.
// It is a places.Provider.
type Search struct {
	*api
	fields string
}

// New returns Places API (New). The error means that the base URL is invalid.
func New(cfg Config) (*Search, error) {
	a, err := newAPI("google", cfg, "https://places.googleapis.com")
	if err != nil {
		return nil, err
	}
	if cfg.Fields == "" {
		cfg.Fields = DefaultFields
	}
	return &Search{a, cfg.Fields}, nil
}

// searchRequest is the body of a question.
type searchRequest struct {
	MaxResultCount      int    `json:"maxResultCount"` // 1 to 20
	RankPreference      string `json:"rankPreference"`
	LocationRestriction struct {
		Circle struct {
			Center latLng  `json:"center"`
			Radius float64 `json:"radius"` // metres, above 0 to 50000
		} `json:"circle"`
	} `json:"locationRestriction"`
}

type latLng struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

func (l *latLng) location() nearby.Location {
	return nearby.Location{Lat: l.Latitude, Lng: l.Longitude}
}

// searchPlace has the fields of a place that a Nearby Search answer has too. Google leaves
// out what it does not know and what is zero.
type searchPlace struct {
	id, name     string
	location     *latLng
	viewport     *viewport
	types        []string
	vicinity     string
	status       string
	rating       float64
	ratings      float64
	plusCode     *plusCode
	attributions []attributed
}

type (
	viewport   struct{ Low, High *latLng }
	plusCode   struct{ GlobalCode, CompoundCode string }
	attributed struct{ Provider, ProviderURI string }
)

// read parses each member separately: a member with an undocumented type is left out, and
// affects neither the place nor other members.
func (p *searchPlace) read(text json.RawMessage) error {
	members, err := object(text)
	if err != nil {
		return err
	}
	var name struct{ Text string }
	optional(members["id"], &p.id)
	optional(members["displayName"], &name)
	p.name = name.Text
	optional(members["location"], &p.location)
	optional(members["viewport"], &p.viewport)
	optional(members["types"], &p.types)
	optional(members["shortFormattedAddress"], &p.vicinity)
	optional(members["businessStatus"], &p.status)
	optional(members["rating"], &p.rating)
	optional(members["userRatingCount"], &p.ratings)
	optional(members["plusCode"], &p.plusCode)
	optional(members["attributions"], &p.attributions)
	return nil
}

// object parses an object's members. Anything else, null included, is an error.
func object(text json.RawMessage) (members map[string]json.RawMessage, err error) {
	if err = json.Unmarshal(text, &members); err == nil && members == nil {
		err = errors.New("null instead of an object")
	}
	return members, err
}

// optional parses a member into its field, unless it is missing or invalid.
func optional[T any](text json.RawMessage, into *T) {
	var v T
	if json.Unmarshal(text, &v) == nil {
		*into = v
	}
}

// isOnEarth reports whether there is such a point. A point needs both members: Google leaves
// out a 0, but there is nothing at 0, 0.
func (l *latLng) isOnEarth() bool {
	return l != nil && *l != latLng{} && math.Abs(l.Latitude) <= 90 && math.Abs(l.Longitude) <= 180
}

// Nearby asks for the places nearest to the point (places.Provider).
func (s *Search) Nearby(ctx context.Context, q places.Query) (nearby.Answer, error) {
	asked := searchRequest{MaxResultCount: min(q.Max, most), RankPreference: "DISTANCE"}
	circle := &asked.LocationRestriction.Circle
	circle.Center = latLng{q.Lat, q.Lon}
	circle.Radius = q.Radius * 1000
	body, err := json.Marshal(asked)
	if err != nil { // a NaN in the query
		return nearby.Answer{}, fmt.Errorf("%w: %w", places.ErrInvalid, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base.JoinPath("/v1/places:searchNearby").String(), bytes.NewReader(body))
	if err != nil {
		return nearby.Answer{}, s.failure(ctx, err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Goog-Api-Key", s.key())
	r.Header.Set("X-Goog-FieldMask", s.fields)
	if body, err = s.do(ctx, r); err != nil {
		return nearby.Answer{}, err
	}
	var found struct {
		Places []json.RawMessage
		Error  json.RawMessage
	}
	if err := s.parse(body, &found); err != nil {
		return nearby.Answer{}, err
	}
	if found.Error != nil {
		return nearby.Answer{}, s.refusal(http.StatusOK, body)
	}
	all, err := readPlaces(found.Places, q.Max)
	if err != nil {
		return nearby.Answer{}, s.errorf("parse the answer: %v", err)
	}
	return translate(all), nil
}

// readPlaces returns at most most places that have a position. It is an error only if none
// can be read.
func readPlaces(found []json.RawMessage, most int) ([]searchPlace, error) {
	var unread error
	all := make([]searchPlace, 0, min(len(found), most))
	for _, text := range found {
		if len(all) == most {
			break
		}
		var p searchPlace
		if err := p.read(text); err != nil {
			unread = err
		} else if p.location.isOnEarth() {
			all = append(all, p)
		}
	}
	if len(all) > 0 {
		unread = nil
	}
	return all, unread
}

// translate converts places to a Nearby Search answer (C15).
func translate(found []searchPlace) nearby.Answer {
	var attributions []string
	results := make([]nearby.Place, 0, len(found))
	for _, p := range found {
		place := nearby.Place{
			BusinessStatus: p.status, Name: p.name, PlaceID: p.id, Rating: p.rating,
			Types: p.types, UserRatingsTotal: int(p.ratings), Vicinity: p.vicinity,
		}
		place.Geometry.Location = p.location.location()
		if view := p.viewport; view != nil && view.Low.isOnEarth() && view.High.isOnEarth() {
			place.Geometry.Viewport = &nearby.Viewport{Northeast: view.High.location(), Southwest: view.Low.location()}
		}
		if code := p.plusCode; code != nil {
			place.PlusCode = &nearby.PlusCode{CompoundCode: code.CompoundCode, GlobalCode: code.GlobalCode}
		}
		results = append(results, place)
		for _, by := range p.attributions {
			text := attribution(by.Provider, by.ProviderURI)
			if text != "" && !slices.Contains(attributions, text) {
				attributions = append(attributions, text)
			}
		}
	}
	return nearby.Found(attributions, results)
}

// attribution returns a data provider as HTML, the form of attributions in Nearby Search. It
// links only to http and https URLs.
func attribution(provider, uri string) string {
	provider = html.EscapeString(provider)
	if !strings.HasPrefix(uri, "https://") && !strings.HasPrefix(uri, "http://") {
		return provider
	}
	if provider == "" {
		provider = html.EscapeString(uri)
	}
	return `<a href="` + html.EscapeString(uri) + `">` + provider + `</a>`
}

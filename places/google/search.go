package google

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strings"

	"herd/places"
	"herd/places/nearby"
)

// DefaultFields is what a Nearby Search answer needs of a place, as far as it costs no
// more than the place itself. Google bills a question by the dearest of its fields, and
// all of these belong to the SKU Nearby Search Pro, which is the lowest that Nearby
// Search (New) has. Ratings (places.rating, places.userRatingCount) are of the next,
// Nearby Search Enterprise: who wants them puts them into HERD_GOOGLE_FIELDS and pays for
// them. See "FieldMask" in
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

// New returns Places API (New). The error is for a base address that is none.
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

func (l latLng) location() nearby.Location {
	return nearby.Location{Lat: l.Latitude, Lng: l.Longitude}
}

// searchPlace is what of a place has a counterpart in a Nearby Search answer. Google
// leaves out what it does not know and what is zero.
type searchPlace struct {
	ID                    string
	DisplayName           struct{ Text string }
	Location              latLng
	Viewport              *struct{ Low, High latLng }
	Types                 []string
	ShortFormattedAddress string
	BusinessStatus        string
	Rating                float64
	UserRatingCount       int
	PlusCode              *struct{ GlobalCode, CompoundCode string }
	Attributions          []struct{ Provider, ProviderURI string }
}

// Nearby asks for the places nearest to the point (places.Provider).
func (s *Search) Nearby(ctx context.Context, q places.Query) (nearby.Answer, error) {
	asked := searchRequest{MaxResultCount: min(q.Max, most), RankPreference: "DISTANCE"}
	circle := &asked.LocationRestriction.Circle
	circle.Center = latLng{q.Lat, q.Lon}
	circle.Radius = q.Radius * 1000
	body, err := json.Marshal(asked)
	if err != nil { // NaN
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
		Places []searchPlace
		Error  json.RawMessage
	}
	if err := s.parse(body, &found); err != nil {
		return nearby.Answer{}, err
	}
	if found.Error != nil {
		return nearby.Answer{}, s.refusal(http.StatusOK, body)
	}
	if len(found.Places) > q.Max {
		found.Places = found.Places[:q.Max]
	}
	return translate(found.Places), nil
}

// translate words places as a Nearby Search answer does (C15).
func translate(found []searchPlace) nearby.Answer {
	var attributions []string
	results := make([]nearby.Place, 0, len(found))
	for _, p := range found {
		place := nearby.Place{
			BusinessStatus: p.BusinessStatus, Name: p.DisplayName.Text, PlaceID: p.ID, Rating: p.Rating,
			Types: p.Types, UserRatingsTotal: p.UserRatingCount, Vicinity: p.ShortFormattedAddress,
		}
		place.Geometry.Location = p.Location.location()
		if view := p.Viewport; view != nil {
			place.Geometry.Viewport = &nearby.Viewport{Northeast: view.High.location(), Southwest: view.Low.location()}
		}
		if code := p.PlusCode; code != nil {
			place.PlusCode = &nearby.PlusCode{CompoundCode: code.CompoundCode, GlobalCode: code.GlobalCode}
		}
		results = append(results, place)
		for _, by := range p.Attributions {
			text := attribution(by.Provider, by.ProviderURI)
			if text != "" && !slices.Contains(attributions, text) {
				attributions = append(attributions, text)
			}
		}
	}
	return nearby.Found(attributions, results)
}

// attribution is a data provider as HTML: Nearby Search has its attributions so. Only the
// web is linked to.
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

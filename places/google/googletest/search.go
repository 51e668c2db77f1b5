package googletest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"strings"
)

// Pro and Enterprise are the SKUs of Nearby Search (New) that fields of a place belong to;
// the dearest field sets the price of a question. The lists have the fields that tests may
// request, not all of Google's.
var (
	Pro = []string{"accessibilityOptions", "addressComponents", "adrFormatAddress", "attributions", "businessStatus",
		"displayName", "formattedAddress", "googleMapsUri", "iconBackgroundColor", "iconMaskBaseUri", "id", "location", "name",
		"photos", "plusCode", "primaryType", "primaryTypeDisplayName", "shortFormattedAddress", "subDestinations", "types",
		"utcOffsetMinutes", "viewport"}
	Enterprise = []string{"currentOpeningHours", "internationalPhoneNumber", "nationalPhoneNumber", "priceLevel", "rating",
		"regularOpeningHours", "userRatingCount", "websiteUri"}
)

// search is places.searchNearby of Places API (New).
func (s *Server) search(w http.ResponseWriter, r *http.Request, behave http.HandlerFunc) {
	fail := func(code int, status, message string) {
		s.refuse("HTTP %d %s: %s", code, status, message)
		WriteError(w, code, status, message)
	}
	if r.Method != http.MethodPost {
		s.refuse("%s for searchNearby", r.Method)
		http.Error(w, "<html>404", http.StatusNotFound)
		return
	}
	if r.URL.RawQuery != "" {
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "parameters in the address: "+r.URL.RawQuery) // Google accepts some, but a key there would show in logs
		return
	}
	switch r.Header.Get("X-Goog-Api-Key") {
	case Key:
	case "":
		fail(http.StatusForbidden, "PERMISSION_DENIED", "Method doesn't allow unregistered callers.")
		return
	default:
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
		return
	}
	mask := r.Header.Get("X-Goog-FieldMask")
	fields, wrong := masked(mask)
	if wrong != "" {
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", wrong)
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "Content-Type "+r.Header.Get("Content-Type"))
		return
	}
	var q struct {
		MaxResultCount      *int
		RankPreference      string
		LocationRestriction *struct {
			Circle *struct {
				Center *struct{ Latitude, Longitude *float64 }
				Radius *float64
			}
		}
		LanguageCode, RegionCode                                                 string
		IncludedTypes, ExcludedTypes, IncludedPrimaryTypes, ExcludedPrimaryTypes []string
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid JSON payload received. "+err.Error())
		return
	}
	if _, err := d.Token(); err != io.EOF {
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid JSON payload received. More than one value.")
		return
	}
	most := 20
	if q.MaxResultCount != nil {
		most = *q.MaxResultCount
	}
	where := q.LocationRestriction
	switch {
	case most < 1 || most > 20:
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "Max_result_count must be between 1 and 20, inclusively.")
	case q.RankPreference != "" && q.RankPreference != "DISTANCE" && q.RankPreference != "POPULARITY":
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid value at 'rank_preference'")
	case where == nil || where.Circle == nil || where.Circle.Center == nil || where.Circle.Radius == nil ||
		where.Circle.Center.Latitude == nil || where.Circle.Center.Longitude == nil:
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "location_restriction.circle lacks a part")
	case !(math.Abs(*where.Circle.Center.Latitude) <= 90 && math.Abs(*where.Circle.Center.Longitude) <= 180):
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid center")
	case !(*where.Circle.Radius > 0 && *where.Circle.Radius <= 50_000):
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid radius")
	case behave != nil:
		behave(w, r)
	default:
		found := s.near(*where.Circle.Center.Latitude, *where.Circle.Center.Longitude, *where.Circle.Radius)
		var places []map[string]any
		for _, p := range found[:min(len(found), most)] {
			whole := p.whole()
			maps.DeleteFunc(whole, func(name string, _ any) bool { return !fields(name) })
			places = append(places, whole)
		}
		answer := map[string]any{}
		if len(places) > 0 { // proto3 leaves out empty members
			answer["places"] = places
		}
		text, err := json.MarshalIndent(answer, "", "  ")
		if err != nil {
			panic(err)
		}
		WriteJSON(w, http.StatusOK, string(text)+"\n")
	}
}

// masked parses a field mask. It returns which fields of a place it selects, or else Google's
// error.
func masked(mask string) (let func(string) bool, wrong string) {
	if mask == "" {
		return nil, "FieldMask is a required parameter."
	}
	if mask == "*" {
		return func(string) bool { return true }, ""
	}
	named := make(map[string]bool)
	for _, path := range strings.Split(mask, ",") {
		name, ok := strings.CutPrefix(path, "places.")
		name, _, _ = strings.Cut(name, ".")
		known := false
		for _, list := range [][]string{Pro, Enterprise} {
			for _, field := range list {
				known = known || field == name
			}
		}
		if !ok || !known {
			return nil, fmt.Sprintf("Error expanding 'fields' parameter. Cannot find matching fields for path '%s'.", path)
		}
		named[name] = true
	}
	return func(name string) bool { return named[name] }, ""
}

// whole returns all fields that the server has of a place.
func (p Place) whole() map[string]any {
	at := func(d float64) map[string]any {
		return map[string]any{"latitude": sixDigits(p.Lat + d), "longitude": sixDigits(p.Lon + d)}
	}
	return map[string]any{
		"name": "places/" + p.ID, "id": p.ID,
		"displayName":           map[string]any{"text": p.Name, "languageCode": "en"},
		"location":              at(0),
		"viewport":              map[string]any{"low": at(-0.001), "high": at(0.001)},
		"types":                 []string{"cafe", "point_of_interest", "establishment"},
		"formattedAddress":      "1 Main St, Los Angeles, CA 90095, USA",
		"shortFormattedAddress": "1 Main St, Los Angeles",
		"businessStatus":        "OPERATIONAL",
		"rating":                4.5,
		"userRatingCount":       321,
		"plusCode":              map[string]any{"globalCode": "85633H93+H2", "compoundCode": "3H93+H2 Los Angeles"},
		"attributions":          []any{map[string]any{"provider": "Maps & Sons", "providerUri": "https://example.org/?a=1&b=2"}},
		"websiteUri":            "https://example.org/",
	}
}

// WriteError answers with an error in the words of Places API (New).
func WriteError(w http.ResponseWriter, code int, status, message string) {
	text, err := json.MarshalIndent(map[string]any{"error": map[string]any{"code": code, "message": message, "status": status}}, "", "  ")
	if err != nil {
		panic(err)
	}
	WriteJSON(w, code, string(text))
}

// sixDigits rounds to the precision of the server's coordinates.
func sixDigits(degrees float64) float64 { return math.Round(degrees*1e6) / 1e6 }

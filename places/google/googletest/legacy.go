package googletest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// legacy is the earlier Nearby Search. Its errors come with HTTP 200.
func (s *Server) legacy(w http.ResponseWriter, r *http.Request, behave http.HandlerFunc) {
	fail := func(status, message string) {
		s.refuse("%s: %s", status, message)
		WriteStatus(w, status, message)
	}
	if r.Method != http.MethodGet {
		s.refuse("%s for nearbysearch", r.Method)
		http.Error(w, "<html>404", http.StatusNotFound)
		return
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Goog-") || name == "Authorization" {
			fail("REQUEST_DENIED", "This API takes no header "+name)
			return
		}
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		fail("INVALID_REQUEST", err.Error())
		return
	}
	for name, values := range q {
		if name != "location" && name != "radius" && name != "key" || len(values) != 1 {
			fail("INVALID_REQUEST", fmt.Sprintf("parameter %s, %d times", name, len(values)))
			return
		}
	}
	if q.Get("key") != Key {
		fail("REQUEST_DENIED", "The provided API key is invalid.")
		return
	}
	text, rest, _ := strings.Cut(q.Get("location"), ",")
	lat, errLat := strconv.ParseFloat(text, 64)
	lon, errLon := strconv.ParseFloat(rest, 64)
	radius, errRadius := strconv.ParseFloat(q.Get("radius"), 64)
	switch {
	case errLat != nil || errLon != nil || !(math.Abs(lat) <= 90 && math.Abs(lon) <= 180):
		fail("INVALID_REQUEST", "location "+q.Get("location"))
	case errRadius != nil || !(radius > 0 && radius <= 50_000):
		fail("INVALID_REQUEST", "radius "+q.Get("radius"))
	case behave != nil:
		behave(w, r)
	default:
		found := s.near(lat, lon, radius)
		answer := map[string]any{"html_attributions": []string{}, "results": []any{}, "status": "ZERO_RESULTS"}
		if len(found) > 0 {
			var results []any
			for _, p := range found[:min(len(found), 20)] {
				results = append(results, p.Legacy())
			}
			answer["results"], answer["status"] = results, "OK"
		}
		if len(found) > 20 {
			answer["next_page_token"] = "Aap_uEA7vb0DDYVJWEaX3O-AtYp77AaswQKSGtDaimt3gt7QCNpdjp1BkdM6acJ96xTec3tsV_ZJNL_JP-lqsVxydG3nh739RE_hepOOL05tfJh2_ranjMadb3VoBYFvF0ma6S24qZ6QJUuV6sSRrhCskSBP5C1myCzsebztMfGvm7ij3gZT"
		}
		text, err := json.MarshalIndent(answer, "", "   ")
		if err != nil {
			panic(err)
		}
		WriteJSON(w, http.StatusOK, string(text)+"\n")
	}
}

// Legacy returns the place as a result of the legacy Nearby Search, with more members than
// the herd's own answers have.
func (p Place) Legacy() map[string]any {
	at := func(d float64) map[string]any { return map[string]any{"lat": p.Lat + d, "lng": p.Lon + d} }
	return map[string]any{
		"business_status":       "OPERATIONAL",
		"geometry":              map[string]any{"location": at(0), "viewport": map[string]any{"northeast": at(0.001), "southwest": at(-0.001)}},
		"icon":                  "https://maps.gstatic.com/mapfiles/place_api/icons/v1/png_71/cafe-71.png",
		"icon_background_color": "#FF9E67",
		"name":                  p.Name,
		"opening_hours":         map[string]any{"open_now": false},
		"photos": []any{map[string]any{"height": 1280, "width": 960, "photo_reference": "AUacShh3_Dd8yvV2JZMtNjjbbSbFhSv-0VmUN",
			"html_attributions": []string{`<a href="https://maps.google.com/maps/contrib/1">A Contributor</a>`}}},
		"place_id":           p.ID,
		"price_level":        2,
		"rating":             4.5,
		"reference":          p.ID,
		"scope":              "GOOGLE",
		"types":              []string{"cafe", "point_of_interest", "establishment"},
		"user_ratings_total": 321,
		"vicinity":           "1 Main Street, Los Angeles",
	}
}

// WriteStatus answers with a failure in the words of the legacy API.
func WriteStatus(w http.ResponseWriter, status, message string) {
	text, err := json.MarshalIndent(map[string]any{"error_message": message, "html_attributions": []string{}, "results": []any{}, "status": status}, "", "   ")
	if err != nil {
		panic(err)
	}
	WriteJSON(w, http.StatusOK, string(text))
}

package test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

// answer has the fields of the JSON text that C15 promises.
type answer struct {
	Attributions []string `json:"html_attributions"`
	Results      []place
	Status       string
	ErrorMessage string `json:"error_message"`
}

type place struct {
	Name     string
	PlaceID  string `json:"place_id"`
	Geometry struct {
		Location struct{ Lat, Lng float64 }
	}
}

// nearby parses the JSON text of a WHATSAT answer.
func nearby(t *testing.T, text string) answer {
	t.Helper()
	if strings.Contains(text, "\n\n") || strings.HasSuffix(text, "\n") {
		t.Errorf("C14: the JSON text has adjacent newlines or one at its end: %q", text)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		t.Fatalf("C15: %q: %v", text, err)
	}
	for _, name := range []string{"html_attributions", "results"} {
		if value := string(members[name]); !strings.HasPrefix(value, "[") {
			t.Errorf("C15: %s is %q, want an array", name, value)
		}
	}
	if !strings.HasPrefix(string(members["status"]), `"`) {
		t.Errorf("C15: status is %q, want a text", members["status"])
	}
	var a answer
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatalf("C15: %q: %v", text, err)
	}
	return a
}

// kilometres returns the great-circle distance on a sphere, which is exact to 0.6 %.
func kilometres(lat1, lon1, lat2, lon2 float64) float64 {
	const degree, radius = math.Pi / 180, 6371.0088
	a := math.Pow(math.Sin((lat2-lat1)*degree/2), 2) +
		math.Cos(lat1*degree)*math.Cos(lat2*degree)*math.Pow(math.Sin((lon2-lon1)*degree/2), 2)
	return 2 * radius * math.Asin(math.Sqrt(a))
}

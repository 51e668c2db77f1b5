package osm

import (
	"regexp"
	"strings"
	"testing"
)

func TestKindsAreWords(t *testing.T) {
	n := 0
	for k, values := range kinds {
		for value, types := range values {
			n++
			seen := make(map[string]bool)
			for word := range strings.FieldsSeq(types + " " + every) {
				if !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(word) || seen[word] {
					t.Errorf("key %d, %s: %q", k, value, types)
				}
				seen[word] = true
			}
		}
	}
	if n < 150 {
		t.Errorf("%d kinds, that cannot be all", n)
	}
}

func TestKind(t *testing.T) {
	for _, test := range []struct {
		tags tags
		want string
		ok   bool
	}{
		{tags{}, "", false},
		{tags{name: []byte("x"), street: []byte("y")}, "", false},
		{tags{amenity: []byte("cafe")}, "cafe food", true},
		{tags{amenity: []byte("something new")}, "", true},
		{tags{shop: []byte("something new")}, "store", true},
		{tags{amenity: []byte("cafe;bar")}, "cafe food bar", true},
		{tags{amenity: []byte(" ; ;no; cafe ")}, "cafe food", true},
		{tags{amenity: []byte("cafe"), shop: []byte("pastry")}, "cafe food bakery store", true},
		{tags{shop: []byte("no")}, "", false},
		{tags{railway: []byte("rail")}, "", false},
		{tags{railway: []byte("tram_stop"), publicTransport: []byte("stop_position")}, "transit_station light_rail_station", true},
		{tags{amenity: []byte("place_of_worship"), religion: []byte("muslim")}, "mosque place_of_worship", true},
		{tags{amenity: []byte("place_of_worship"), religion: []byte("other")}, "place_of_worship", true},
		{tags{religion: []byte("muslim")}, "", false},
	} {
		if got, ok := test.tags.kind(); got != test.want || ok != test.ok {
			t.Errorf("%q: %q, %v; want %q, %v", test.tags, got, ok, test.want, test.ok)
		}
	}
}

func TestVicinity(t *testing.T) {
	b := func(s string) []byte { return []byte(s) }
	for _, test := range []struct {
		tags tags
		want string
	}{
		{tags{name: b("x")}, ""},
		{tags{housenumber: b("7")}, ""},
		{tags{street: b("High Street")}, "High Street"},
		{tags{housenumber: b("7"), street: b("High Street"), quarter: b("Soho"), city: b("London"), suburb: b("Camden")}, "7 High Street, London"},
		{tags{housenumber: b("7"), quarter: b("Soho"), village: b("Oxton")}, "7 Soho, Oxton"},
		{tags{city: b("London")}, "London"},
		{tags{suburb: b("Camden"), hamlet: b("Mill")}, "Mill"},
		{tags{full: b("all of it"), city: b("London")}, "all of it"},
	} {
		if got := string(test.tags.appendVicinity(nil)); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// TestValuesThatAreNone: OpenStreetMap allows 255 characters; longer values would make long
// answers.
func TestValuesThatAreNone(t *testing.T) {
	var got tags
	got.set(name, []byte(strings.Repeat("x", longest+1)))
	got.set(city, []byte(strings.Repeat("ü", longest/2)))
	if got[name] != nil || len(got[city]) != longest {
		t.Errorf("%d and %d bytes", len(got[name]), len(got[city]))
	}
}

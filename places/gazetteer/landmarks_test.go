package gazetteer

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"

	"herd/places"
	"herd/places/nearby"
)

// lines returns the built-in landmarks.
func lines(t *testing.T) []landmark {
	t.Helper()
	all, err := parse(landmarksTSV)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLandmarksAreInOrder(t *testing.T) {
	all := lines(t)
	if !slices.IsSortedFunc(all, func(a, b landmark) int {
		return cmp.Or(strings.Compare(a.country, b.country), strings.Compare(a.slug, b.slug))
	}) {
		t.Error("not sorted by country and id")
	}
	type spot struct{ lat, lon float64 }
	names, spots := make(map[string]string), make(map[spot]string)
	for _, l := range all {
		if other, ok := names[l.name]; ok {
			t.Errorf("%s and %s have one name", l.slug, other)
		}
		if other, ok := spots[spot{l.lat, l.lon}]; ok {
			t.Errorf("%s and %s are at one point", l.slug, other)
		}
		names[l.name], spots[spot{l.lat, l.lon}] = l.slug, l.slug
	}
}

// TestThereIsMuchToFindAtUCLA: newcomers try the example there.
func TestThereIsMuchToFindAtUCLA(t *testing.T) {
	here, n := places.Toward(ucla.Lat, ucla.Lon), 0
	for _, l := range lines(t) {
		if here.Distance(places.Toward(l.lat, l.lon)) <= 10 {
			n++
		}
	}
	if n < 25 {
		t.Errorf("%d landmarks within 10 km, want 25", n)
	}
}

// box is a rough bounding box of a country, in degrees.
type box struct{ south, west, north, east float64 }

// townless are the countries and territories without a town in the list. A bounding box
// replaces the check by towns.
var townless = map[string]box{
	"Antarctica":           {-90, -180, -60, 180},
	"Egypt":                {22.0, 24.7, 31.7, 36.9},
	"Greenland":            {59.7, -73.3, 83.7, -11.3},
	"Monaco":               {43.72, 7.40, 43.76, 7.45},
	"Puerto Rico":          {17.9, -67.3, 18.6, -65.2},
	"Saudi Arabia":         {16.3, 34.5, 32.2, 55.7},
	"Singapore":            {1.15, 103.6, 1.48, 104.1},
	"Taiwan":               {21.8, 119.3, 25.4, 122.1},
	"United Arab Emirates": {22.6, 51.5, 26.1, 56.4},
}

// afar are the landmarks whose nearest towns are across a border, or that have none, and why
// they are nevertheless right.
var afar = map[string]string{
	"alert-airport": "northern Ellesmere Island: Iceland's towns are nearer than any of Canada's that are in the list",
}

// TestLandmarksLieInTheirCountries checks that one of the five towns nearest to a landmark is
// in the landmark's country.
func TestLandmarksLieInTheirCountries(t *testing.T) {
	all := towns()
	known, excused := make(map[string]bool), make(map[string]bool)
	directions := make([]places.Direction, len(all))
	for i, town := range all {
		known[town.Vicinity] = true
		directions[i] = places.Toward(town.Geometry.Location.Lat, town.Geometry.Location.Lng)
	}
	for _, l := range lines(t) {
		if frame, ok := townless[l.country]; ok {
			if known[l.country] {
				t.Errorf("%s has towns by now", l.country)
			}
			if l.lat < frame.south || l.lat > frame.north || l.lon < frame.west || l.lon > frame.east {
				t.Errorf("%s is not in %s", l.slug, l.country)
			}
			continue
		}
		if !known[l.country] {
			t.Errorf("%s: no such country: %q", l.slug, l.country)
			continue
		}
		witnesses := nearest(all, directions, places.Toward(l.lat, l.lon), 5)
		right := slices.ContainsFunc(witnesses, func(town nearby.Place) bool { return town.Vicinity == l.country })
		if _, ok := afar[l.slug]; ok {
			excused[l.slug] = true
			if right {
				t.Errorf("%s needs no excuse", l.slug)
			}
		} else if !right {
			t.Errorf("%s is not in %s: next to it are %s", l.slug, l.country, names(witnesses))
		}
	}
	for slug := range afar {
		if !excused[slug] {
			t.Errorf("%s is excused and not there", slug)
		}
	}
}

// TestLandmarksAreInTheTownsTheyName: if the list has a town of that name in the country, it
// is near. Mountains and great walls may be some way off.
func TestLandmarksAreInTheTownsTheyName(t *testing.T) {
	const out = 65 // km
	spots, checked := make(map[string][]places.Direction), 0
	for _, town := range towns() {
		key := town.Name + ", " + town.Vicinity
		spots[key] = append(spots[key], places.Toward(town.Geometry.Location.Lat, town.Geometry.Location.Lng))
	}
	for _, l := range lines(t) {
		all := spots[l.locality+", "+l.country]
		if len(all) == 0 {
			continue
		}
		checked++
		best := math.Inf(1)
		for _, d := range all {
			best = min(best, d.Distance(places.Toward(l.lat, l.lon)))
		}
		if best > out {
			t.Errorf("%s is %.0f km from %s, %s", l.slug, best, l.locality, l.country)
		}
	}
	if checked < 150 {
		t.Errorf("only %d landmarks name a town of the list", checked)
	}
}

// nearest returns the n towns nearest to a point, nearest first. It is a plain scan, so that
// the index is not checked against itself.
func nearest(all []nearby.Place, directions []places.Direction, here places.Direction, n int) []nearby.Place {
	var best []int
	for i, d := range directions {
		at, _ := slices.BinarySearchFunc(best, d, func(j int, d places.Direction) int {
			return cmp.Compare(here.Chord(directions[j]), here.Chord(d))
		})
		if at < n {
			best = slices.Insert(best, at, i)[:min(len(best)+1, n)]
		}
	}
	var near []nearby.Place
	for _, i := range best {
		near = append(near, all[i])
	}
	return near
}

func names(all []nearby.Place) string {
	var list []string
	for _, p := range all {
		list = append(list, p.Name+" ("+p.Vicinity+")")
	}
	return strings.Join(list, ", ")
}

const good = "taj-mahal\tTaj Mahal\t27.175\t78.042\ttourist_attraction\tAgra\tIndia\tsomewhere"

func TestParse(t *testing.T) {
	all, err := parse("# comment\n\n" + good + "\n" + strings.Replace(good, "taj", "other", 1) + "\n")
	if err != nil || len(all) != 2 || all[0].name != "Taj Mahal" || all[0].lat != 27.175 || all[0].lon != 78.042 || all[1].slug != "other-mahal" {
		t.Fatalf("got %+v, %v", all, err)
	}
	place := all[0].place()
	if place.PlaceID != "herd:landmark/taj-mahal" || place.Vicinity != "Agra, India" ||
		!slices.Equal(place.Types, []string{"tourist_attraction", "point_of_interest", "establishment"}) {
		t.Errorf("got %+v", place)
	}
	for _, test := range []struct{ name, old, new, want string }{
		{"a field too few", "\tsomewhere", "", "7 fields"},
		{"a field too many", "somewhere", "some\twhere", "9 fields"},
		{"no slug", "taj-mahal", "", "slug"},
		{"slug with capitals", "taj-mahal", "Taj-Mahal", "slug"},
		{"no name", "Taj Mahal", "", "lacks a name"},
		{"no country", "India", "", "a country"},
		{"no source", "somewhere", "", "or a source"},
		{"kind unknown", "tourist_attraction", "tomb", "kind"},
		{"no kind", "tourist_attraction", "", "kind"},
		{"latitude beyond 90", "27.175", "90.01", "beyond"},
		{"longitude beyond 180", "78.042", "-180.001", "beyond"},
		{"latitude too coarse", "27.175", "27.1", "degrees"},
		{"latitude in minutes", "27.175", "27°10'", "degrees"},
		{"longitude not a number", "78.042", "NaN", "degrees"},
		{"text with a stray space", "Agra", "Agra ", "spaces"},
		{"text that is no UTF-8", "Agra", "Agr\xe1", "plain text"},
		{"a carriage return", "somewhere", "somewhere\r", "plain text"},
		{"twice", "somewhere", "somewhere\n" + good, "duplicate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(strings.Replace(good, test.old, test.new, 1))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "line ") {
				t.Errorf("got %v, want one that says line and %q", err, test.want)
			}
		})
	}
}

// FuzzParse: whatever the file contains, parse refuses it or returns landmarks that can be
// shown.
func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("# only a comment")
	f.Add(good + "\n" + good)
	f.Add(strings.Replace(good, "27", "-0", 1))
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parse(text)
		if err != nil {
			return
		}
		for _, l := range all {
			answer := nearby.Found(nil, []nearby.Place{l.place()})
			if _, err := answer.Append(nil); err != nil || l.lat < -90 || l.lat > 90 || l.lon < -180 || l.lon > 180 || l.source == "" {
				t.Fatalf("%+v: %v", l, err)
			}
		}
	})
}

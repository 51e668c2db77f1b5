package places_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"herd/places"
)

func TestDistance(t *testing.T) {
	half := math.Pi * places.EarthRadius
	for _, test := range []struct {
		name                   string
		lat1, lon1, lat2, lon2 float64
		want                   float64 // km
	}{
		{"the same point", 34.06893, -118.445127, 34.06893, -118.445127, 0},
		{"a degree of the equator", 0, 10, 0, 11, half / 180},
		{"a degree of a meridian", 34, -118, 35, -118, half / 180},
		{"across the antimeridian", 0, 179.5, 0, -179.5, half / 180},
		{"the antimeridian has two names", 10, 180, 10, -180, 0},
		{"across the pole", 89.5, 20, 89.5, -160, half / 180},
		{"the pole has every longitude", 90, 20, 90, 77, 0},
		{"pole to pole", 90, 0, -90, 0, half},
		{"antipodes", 12, 34, -12, -146, half},
		{"nearly antipodes", 0, 0, 1e-6, 180, half - 1e-6*half/180},
		{"a centimetre", 45, 7, 45 + 1e-7, 7, 1e-7 * half / 180},
		// The usual example for haversine code: the airports of Nashville and Los Angeles are
		// 2887.2599 km apart on a sphere of 6372.8 km.
		{"BNA to LAX", 36.12, -86.67, 33.94, -118.40, 2887.2599506071106 * places.EarthRadius / 6372.8},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := places.Toward(test.lat1, test.lon1), places.Toward(test.lat2, test.lon2)
			if got := a.Distance(b); math.Abs(got-test.want) > 1e-9 {
				t.Errorf("got %.12f km, want %.12f", got, test.want)
			}
		})
	}
}

func TestDistanceIsAMetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		point := rapid.Custom(func(t *rapid.T) places.Direction {
			return places.Toward(rapid.Float64Range(-90, 90).Draw(t, "lat"), rapid.Float64Range(-180, 180).Draw(t, "lon"))
		})
		a, b, c := point.Draw(t, "a"), point.Draw(t, "b"), point.Draw(t, "c")
		if a.Distance(a) != 0 || a.Distance(b) != b.Distance(a) {
			t.Error("not 0 to itself, or not the same both ways")
		}
		if detour := a.Distance(b) + b.Distance(c) - a.Distance(c); detour < -1e-9 {
			t.Errorf("a detour saves %v km", -detour)
		}
	})
}

package gazetteer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"herd/places"
	"herd/places/nearby"
	"herd/places/placestest"
)

var ucla = places.Query{Lat: 34.068930, Lon: -118.445127, Radius: 10, Max: 20}

// builtIn returns the built-in gazetteer.
func builtIn(tb testing.TB) *Gazetteer {
	tb.Helper()
	g, err := New()
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

func TestConformance(t *testing.T) {
	g := builtIn(t)
	for name, known := range map[string]placestest.Known{
		"UCLA":             {Busy: places.Query{Lat: ucla.Lat, Lon: ucla.Lon, Radius: 10, Max: 5}, Quiet: places.Query{Lat: 0, Lon: -140, Radius: 50, Max: 5}},
		"many towns":       {Busy: places.Query{Lat: 49.6, Lon: 6.1, Radius: 50, Max: 19}, Quiet: places.Query{Lat: 90, Lon: 0, Radius: 50, Max: 20}},
		"the antimeridian": {Busy: places.Query{Lat: -13.8, Lon: -171.9, Radius: 20, Max: 2}, Quiet: places.Query{Lat: -70, Lon: 180, Radius: 50, Max: 20}},
	} {
		t.Run(name, func(t *testing.T) { placestest.Run(t, g, known) })
	}
}

func TestEveryAnswerSaysWhatItIs(t *testing.T) {
	g := builtIn(t)
	for _, q := range []places.Query{ucla, {Lat: -90, Radius: 50, Max: 20}} {
		answer, err := g.Nearby(t.Context(), q)
		if err != nil || !slices.Equal(answer.HTMLAttributions, []string{Attribution}) {
			t.Errorf("%+v: attributions %q, %v", q, answer.HTMLAttributions, err)
		}
	}
}

func TestQuestionsThatMakeNoSense(t *testing.T) {
	g, nan := builtIn(t), math.NaN()
	for _, q := range []places.Query{
		{Lat: 90.1, Radius: 1, Max: 1}, {Lat: nan, Radius: 1, Max: 1}, {Lon: -180.1, Radius: 1, Max: 1}, {Lon: nan, Radius: 1, Max: 1},
		{Radius: -1, Max: 1}, {Radius: nan, Max: 1}, {Radius: 1, Max: -1},
	} {
		if _, err := g.Nearby(t.Context(), q); !errors.Is(err, places.ErrInvalid) {
			t.Errorf("%+v: %v, want %v", q, err, places.ErrInvalid)
		}
	}
	answer, err := g.Nearby(t.Context(), places.Query{Radius: 1e9, Max: 1000})
	if err != nil || len(answer.Results) != 20 {
		t.Errorf("the whole Earth: %d results, %v; want the nearest 20", len(answer.Results), err)
	}
}

// at returns a place for an index of the test's own.
func at(id string, lat, lon float64) nearby.Place {
	name, _, _ := strings.Cut(id, "/")
	return nearby.Place{Name: name, PlaceID: id, Geometry: nearby.Geometry{Location: nearby.Location{Lat: lat, Lng: lon}}}
}

func found(t interface {
	Helper()
	Fatal(...any)
}, g *Gazetteer, q places.Query) []string {
	t.Helper()
	answer, err := g.Nearby(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, p := range answer.Results {
		ids = append(ids, p.PlaceID)
	}
	return ids
}

func TestSearch(t *testing.T) {
	g := index([]nearby.Place{
		at("west", 10, -179.99), at("east", 10, 179.99), at("line", 10, 180),
		at("pole", 90, 0), at("near pole", 89.9, 120), at("far side", 89.9, -60), at("south", -90, 50),
		at("a", 0, 20.1), at("b/2", 0, 20.1), at("b/1", 0, 20.1),
	})
	for _, test := range []struct {
		name string
		q    places.Query
		want []string
	}{
		{"across the antimeridian from the east", places.Query{Lat: 10, Lon: 179.98, Radius: 10, Max: 20}, []string{"east", "line", "west"}},
		{"across the antimeridian from the west", places.Query{Lat: 10, Lon: -179.98, Radius: 10, Max: 20}, []string{"west", "line", "east"}},
		{"on the antimeridian", places.Query{Lat: 10, Lon: -180, Radius: 0.5, Max: 20}, []string{"line"}},
		{"at the pole from any longitude", places.Query{Lat: 90, Lon: -77, Radius: 12, Max: 20}, []string{"pole", "far side", "near pole"}},
		{"across the pole", places.Query{Lat: 89.9, Lon: 120, Radius: 23, Max: 20}, []string{"near pole", "pole", "far side"}},
		{"at the south pole", places.Query{Lat: -89.9, Lon: -130, Radius: 11.2, Max: 20}, []string{"south"}},
		{"the radius is inclusive", places.Query{Lat: -89, Lon: 50, Radius: places.Toward(-89, 50).Distance(places.Toward(-90, 50)), Max: 20}, []string{"south"}},
		{"and no more than that", places.Query{Lat: -89, Lon: 50, Radius: math.Nextafter(places.Toward(-89, 50).Distance(places.Toward(-90, 50)), 0), Max: 20}, []string{}},
		{"ties by name, then id", places.Query{Lat: 0, Lon: 20, Radius: 20, Max: 20}, []string{"a", "b/1", "b/2"}},
		{"the nearest of many", places.Query{Lat: 0, Lon: 20.05, Radius: 50, Max: 2}, []string{"a", "b/1"}},
		{"none wanted", places.Query{Lat: 0, Lon: 20, Radius: 50, Max: 0}, []string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := found(t, g, test.q); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestSearchIsAPlainScan compares the index with a scan over all places in the difficult
// cases: at the poles, at the antimeridian, with equal points and at the radius.
func TestSearchIsAPlainScan(t *testing.T) {
	lat := rapid.OneOf(rapid.Float64Range(-90, 90), rapid.Float64Range(89, 90), rapid.Float64Range(-90, -89),
		rapid.Float64Range(-0.5, 0.5), rapid.SampledFrom([]float64{-90, -45, 0, 45, 90}))
	lon := rapid.OneOf(rapid.Float64Range(-180, 180), rapid.Float64Range(179, 180), rapid.Float64Range(-180, -179),
		rapid.SampledFrom([]float64{-180, -90, 0, 90, 180}))
	rapid.Check(t, func(t *rapid.T) {
		var all []nearby.Place
		for i := range rapid.IntRange(0, 60).Draw(t, "places") {
			all = append(all, at(fmt.Sprintf("%d/%d", i%7, i), lat.Draw(t, "lat"), lon.Draw(t, "lon")))
		}
		g := index(slices.Clone(all))
		q := places.Query{Lat: lat.Draw(t, "lat"), Lon: lon.Draw(t, "lon"), Max: rapid.IntRange(0, 20).Draw(t, "max")}
		here := places.Toward(q.Lat, q.Lon)
		distance := func(p nearby.Place) float64 {
			return here.Distance(places.Toward(p.Geometry.Location.Lat, p.Geometry.Location.Lng))
		}
		q.Radius = rapid.OneOf(rapid.Float64Range(0, 50), rapid.Float64Range(0, 25000)).Draw(t, "radius")
		if len(all) > 0 && rapid.Bool().Draw(t, "rim") {
			q.Radius = distance(all[0])
		}

		near := slices.DeleteFunc(slices.Clone(all), func(p nearby.Place) bool { return distance(p) > q.Radius })
		slices.SortFunc(near, func(a, b nearby.Place) int {
			return cmp.Or(cmp.Compare(distance(a), distance(b)), strings.Compare(a.Name, b.Name), strings.Compare(a.PlaceID, b.PlaceID))
		})
		want := []string{}
		for _, p := range near[:min(len(near), q.Max)] {
			want = append(want, p.PlaceID)
		}
		if got := found(t, g, q); !slices.Equal(got, want) {
			t.Fatalf("%+v: got %q, want %q", q, got, want)
		}
	})
}

// busiest returns the question with the most places in its band of latitudes.
func busiest(g *Gazetteer) places.Query {
	best, q := 0, places.Query{Radius: 50, Max: 20}
	for _, p := range g.places {
		from, _ := slices.BinarySearch(g.lats, p.Geometry.Location.Lat-0.45)
		to, _ := slices.BinarySearch(g.lats, p.Geometry.Location.Lat+0.45)
		if to-from > best {
			best, q.Lat, q.Lon = to-from, p.Geometry.Location.Lat, p.Geometry.Location.Lng
		}
	}
	return q
}

func BenchmarkNearby(b *testing.B) {
	g := builtIn(b)
	run := func(name string, q places.Query) {
		b.Run(name, func(b *testing.B) {
			var text []byte
			b.ReportAllocs()
			for b.Loop() {
				answer, err := g.Nearby(b.Context(), q)
				if err != nil {
					b.Fatal(err)
				}
				text, _ = answer.Append(text[:0])
			}
		})
	}
	run("UCLA 10 5", places.Query{Lat: ucla.Lat, Lon: ucla.Lon, Radius: 10, Max: 5})
	run("most towns 50 20", places.Query{Lat: 49.6, Lon: 6.1, Radius: 50, Max: 20})
	run("widest band 50 20", busiest(g))
	b.Run("floor: all distances", func(b *testing.B) {
		here, sum := places.Toward(ucla.Lat, ucla.Lon), 0.0
		for b.Loop() {
			for _, d := range g.directions {
				sum += here.Chord(d)
			}
		}
		_ = sum
	})
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		builtIn(b)
	}
}

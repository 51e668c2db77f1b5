package osm

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"herd/places"
	"herd/places/nearby"
)

// spot is a place for an index of the test's own: its name and position.
type spot struct {
	id       int64
	name     string
	lat, lon float64
}

// mustIndex returns the index of what was collected, in which each element has one version.
func mustIndex(c *collector) *index {
	x, err := newIndex(c.places, c.text.String(), c.kinds)
	if err != nil {
		panic(err)
	}
	return x
}

func indexOf(spots []spot) *index {
	c := &collector{}
	for _, s := range spots {
		t := tags{name: []byte(s.name)}
		c.add(s.id<<1, 0, degrees(s.lat, s.lon), "store", &t)
	}
	return mustIndex(c)
}

func queryAt(p point, max int) places.Query {
	return places.Query{Lat: p.degreesLat(), Lon: p.degreesLon(), Radius: 1, Max: max}
}

func ids(results []nearby.Place) []string {
	all := []string{}
	for _, p := range results {
		all = append(all, p.PlaceID)
	}
	return all
}

// scan returns the answer to q by a plain scan over all places.
func (x *index) scan(q places.Query) []string {
	here := places.Toward(q.Lat, q.Lon)
	type hit struct {
		km    float64
		place *place
	}
	var hits []hit
	for i := range x.places {
		p := &x.places[i]
		there := places.Toward(p.at.degreesLat(), p.at.degreesLon())
		if km := here.Distance(there); km <= q.Radius {
			hits = append(hits, hit{km, p})
		}
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Or(cmp.Compare(a.km, b.km), x.compare(a.place, b.place)) })
	all := []string{}
	for _, h := range hits[:min(len(hits), q.Max)] {
		all = append(all, h.place.placeID())
	}
	return all
}

func TestSearch(t *testing.T) {
	x := indexOf([]spot{
		{1, "west", 10, -179.999}, {2, "east", 10, 179.999}, {3, "line", 10, 180},
		{5, "pole", 90, 0}, {6, "near pole", 89.99, 120}, {7, "far side", 89.99, -60}, {8, "south", -90, 50},
		{10, "b", 0, 20.1}, {9, "b", 0, 20.1}, {11, "a", 0, 20.1},
	})
	rim := places.Toward(-89, 50).Distance(places.Toward(-90, 50))
	for _, test := range []struct {
		name string
		q    places.Query
		want []string
	}{
		{"across the antimeridian from the east", places.Query{Lat: 10, Lon: 179.998, Radius: 1, Max: 20}, []string{"2", "3", "1"}},
		{"across the antimeridian from the west", places.Query{Lat: 10, Lon: -179.998, Radius: 1, Max: 20}, []string{"1", "3", "2"}},
		{"on the antimeridian", places.Query{Lat: 10, Lon: -180, Radius: 0.05, Max: 20}, []string{"3"}},
		{"at the pole from any longitude", places.Query{Lat: 90, Lon: -77, Radius: 1.2, Max: 20}, []string{"5", "7", "6"}},
		{"across the pole", places.Query{Lat: 89.99, Lon: 120, Radius: 2.3, Max: 20}, []string{"6", "5", "7"}},
		{"at the south pole", places.Query{Lat: -89.9, Lon: -130, Radius: 11.2, Max: 20}, []string{"8"}},
		{"the radius is inclusive", places.Query{Lat: -89, Lon: 50, Radius: rim, Max: 20}, []string{"8"}},
		{"and no more than that", places.Query{Lat: -89, Lon: 50, Radius: math.Nextafter(rim, 0), Max: 20}, []string{}},
		{"ties by name, then id as text", places.Query{Lat: 0, Lon: 20, Radius: 20, Max: 20}, []string{"11", "10", "9"}},
		{"the nearest of many", places.Query{Lat: 0, Lon: 20.05, Radius: 50, Max: 2}, []string{"11", "10"}},
		{"none wanted", places.Query{Lat: 0, Lon: 20, Radius: 50, Max: 0}, []string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ids(x.answer(test.q))
			for i := range got {
				got[i] = strings.TrimPrefix(got[i], "osm:node/")
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

var (
	anyLat = rapid.OneOf(rapid.Float64Range(-90, 90), rapid.Float64Range(89, 90), rapid.Float64Range(-90, -89),
		rapid.Float64Range(-0.5, 0.5), rapid.SampledFrom([]float64{-90, -45, 0, 45, 89.99, 90}))
	anyLon = rapid.OneOf(rapid.Float64Range(-180, 180), rapid.Float64Range(179, 180), rapid.Float64Range(-180, -179),
		rapid.SampledFrom([]float64{-180, -179.999, -90, 0, 90, 179.999, 180}))
)

// TestSearchIsAPlainScan compares the index with a scan over all places in the difficult
// cases: at the poles, at the antimeridian, with equal points and at the radius.
func TestSearchIsAPlainScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var spots []spot
		for i := range rapid.SampledFrom([]int{0, 1, run - 1, run, run + 1, 3*run + 5, 1200}).Draw(t, "places") {
			if i < 100 {
				spots = append(spots, spot{int64(i), fmt.Sprint(i % 7), anyLat.Draw(t, "lat"), anyLon.Draw(t, "lon")})
				continue
			}
			// More places near those, so that the tree has several levels.
			at := spots[i%100]
			spots = append(spots, spot{int64(i), fmt.Sprint(i % 7), at.lat * (1 - float64(i)*1e-5), at.lon * (1 - float64(i)*1e-5)})
		}
		x := indexOf(spots)
		q := places.Query{Lat: anyLat.Draw(t, "lat"), Lon: anyLon.Draw(t, "lon"), Max: rapid.IntRange(0, 20).Draw(t, "max")}
		q.Radius = rapid.OneOf(rapid.Float64Range(0, 50), rapid.Float64Range(0, 25000)).Draw(t, "radius")
		if len(spots) > 0 && rapid.Bool().Draw(t, "rim") {
			at := x.places[0].at
			q.Radius = places.Toward(q.Lat, q.Lon).Distance(places.Toward(at.degreesLat(), at.degreesLon()))
		}
		if got, want := ids(x.answer(q)), x.scan(q); !slices.Equal(got, want) {
			t.Fatalf("%+v: got %q, want %q", q, got, want)
		}
	})
}

// TestNoPointOfABoxIsNearerThanTheBox: the search skips boxes by this distance.
func TestNoPointOfABoxIsNearerThanTheBox(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lat1, lat2, lon1, lon2 := anyLat.Draw(t, "lat"), anyLat.Draw(t, "lat"), anyLon.Draw(t, "lon"), anyLon.Draw(t, "lon")
		low, high := [2]float64{min(lat1, lat2), min(lon1, lon2)}, [2]float64{max(lat1, lat2), max(lon1, lon2)}
		lat, lon := anyLat.Draw(t, "lat"), anyLon.Draw(t, "lon")
		here, got := places.Toward(lat, lon), newOrigin(lat, lon).chord(low, high)
		nearest, share := math.Inf(1), rapid.Float64Range(0, 1)
		for i := range 40 {
			a, b := share.Draw(t, "share"), share.Draw(t, "share")
			if i < 22 { // the western and eastern sides, where the nearest point is
				a, b = float64(i/2)/10, float64(i%2)
			}
			there := places.Toward(low[0]+a*(high[0]-low[0]), low[1]+b*(high[1]-low[1]))
			nearest = min(nearest, here.Chord(there))
		}
		if got > nearest*(1+1e-9)+1e-18 {
			t.Fatalf("%v %v to %v–%v: %v, but there is a point at %v", lat, lon, low, high, got, nearest)
		}
		if point := newOrigin(lat, lon).chord(low, low); math.Abs(point-here.Chord(places.Toward(low[0], low[1]))) > 1e-12 {
			t.Fatalf("%v %v to the point %v: %v", lat, lon, low, point)
		}
	})
}

// crowd returns n places: spread over a country, most of them in towns, or all within 50 km
// of the point 48, 11.
func crowd(n int, dense bool) *index {
	random := rand.New(rand.NewPCG(1, 2))
	c := &collector{}
	var t tags
	kinds := []string{"store", "cafe food", "restaurant food", "bar", "transit_station", "lodging", "", "park"}
	for i := range n {
		lat, lon := 47+8*random.Float64(), 6+9*random.Float64()
		if dense {
			lat, lon = 48+0.4*random.NormFloat64()/3, 11+0.6*random.NormFloat64()/3
		} else if i%5 != 0 {
			town := rand.New(rand.NewPCG(uint64(random.IntN(2000)), 3))
			lat, lon = 47+8*town.Float64()+0.03*random.NormFloat64(), 6+9*town.Float64()+0.04*random.NormFloat64()
		}
		t[name] = fmt.Appendf(nil, "Place number %d", i)
		t[street], t[city] = nil, nil
		if i%3 == 0 {
			t[housenumber], t[street], t[city] = []byte("17"), []byte("Hauptstrasse"), []byte("Neustadt")
		}
		c.add(int64(i+1)<<1, 0, degrees(lat, lon), kinds[i%len(kinds)], &t)
	}
	return mustIndex(c)
}

var million = [2]func() *index{
	sync.OnceValue(func() *index { return crowd(1_000_000, false) }),
	sync.OnceValue(func() *index { return crowd(1_000_000, true) }),
}

// TestAMillionPlacesAnswerLikeAFew: the same answers as a scan, in far less time.
func TestAMillionPlacesAnswerLikeAFew(t *testing.T) {
	n := 100_000
	if os.Getenv("HERD_TEST") == "full" {
		n = 1_000_000
	}
	for _, dense := range []bool{false, true} {
		x := crowd(n, dense)
		random := rand.New(rand.NewPCG(4, 5))
		for range 20 {
			q := places.Query{Lat: 48 + random.NormFloat64()/5, Lon: 11 + random.NormFloat64()/5, Radius: 50 * random.Float64(), Max: 20}
			if got, want := ids(x.answer(q)), x.scan(q); !slices.Equal(got, want) {
				t.Fatalf("%+v: got %q, want %q", q, got, want)
			}
		}
		if _, boxes := x.search(places.Query{Lat: 48, Lon: 11, Radius: 50, Max: 20}); boxes > 1000 {
			t.Errorf("dense %v: %d boxes were looked at for 20 of %d places, want at most 1000", dense, boxes, n)
		} else {
			t.Logf("dense %v: %d boxes of %d", dense, boxes, n/run)
		}
	}
}

func BenchmarkNearby(b *testing.B) {
	for i, layout := range []string{"country", "town"} {
		for _, q := range []places.Query{
			{Lat: 48.0, Lon: 11.0, Radius: 50, Max: 20}, {Lat: 48.0, Lon: 11.0, Radius: 1, Max: 20},
			{Lat: 48.0, Lon: 11.0, Radius: 0.01, Max: 20}, {Lat: 0, Lon: 0, Radius: 50, Max: 20},
		} {
			b.Run(fmt.Sprintf("%s %g %g %g", layout, q.Lat, q.Radius, float64(q.Max)), func(b *testing.B) {
				x := million[i]()
				e := New("", nil)
				e.now.Store(x)
				var text []byte
				b.ReportAllocs()
				for b.Loop() {
					answer, err := e.Nearby(b.Context(), q)
					if err != nil {
						b.Fatal(err)
					}
					text, _ = answer.Append(text[:0])
				}
			})
		}
	}
	b.Run("spread over a country 50 20", func(b *testing.B) {
		x := million[0]()
		random := rand.New(rand.NewPCG(6, 7))
		var took []time.Duration
		b.ReportAllocs()
		for b.Loop() {
			q := places.Query{Lat: 47 + 8*random.Float64(), Lon: 6 + 9*random.Float64(), Radius: 50, Max: 20}
			start := time.Now()
			x.answer(q)
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	})
	b.Run("floor: all distances", func(b *testing.B) {
		x := million[0]()
		for b.Loop() {
			x.scan(places.Query{Lat: 48, Lon: 11, Radius: 0.01, Max: 20})
		}
	})
}

// BenchmarkMemory reports the memory per place, including its name and street.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		x := crowd(1_000_000, false)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(x.places)), "bytes/place")
		b.ReportMetric(float64(len(x.text))/float64(len(x.places)), "text-bytes/place")
	}
}

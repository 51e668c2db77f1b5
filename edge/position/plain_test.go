package position

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"herd/edge/wire"
)

// sizes returns the short form of a number, or with HERD_TEST=full the whole.
func sizes(short, full int) int {
	if os.Getenv("HERD_TEST") == "full" {
		return full
	}
	return short
}

// location writes a point as a client would.
func location(p wire.Point) string {
	angle := func(v int32) string {
		sign := '+'
		if v < 0 {
			sign, v = '-', -v
		}
		return fmt.Sprintf("%c%d.%07d", sign, v/degree, v%degree)
	}
	return angle(p.Lat) + angle(p.Lon)
}

// A plain is a table beside a plain list of its clients.
type plain struct {
	table *Table
	point map[string]wire.Point
	ids   []string
	line  map[string][]byte
	stamp int64
}

func newPlain(cfg Config) *plain {
	cfg.Live = true
	return &plain{table: New(cfg), point: map[string]wire.Point{}, line: map[string][]byte{}}
}

func (p *plain) put(t testing.TB, id string, to wire.Point) {
	t.Helper()
	p.stamp++
	line := at("A", id, location(to), float64(p.stamp), 0)
	if out := apply(t, p.table, p.stamp*second, Source{}, Put, line)[0].Outcome; out != Stored {
		t.Fatalf("%q: outcome %d", line, out)
	}
	if _, known := p.point[id]; !known {
		p.ids = append(p.ids, id)
	}
	p.point[id], p.line[id] = to, line
}

// somewhere draws points as the Earth has them at its worst: towns, poles, the antimeridian,
// whole degrees, corners of cells.
func somewhere(r *rand.Rand) wire.Point {
	lat, lon := r.Int64N(2*right+1)-right, r.Int64N(2*half+1)-half
	switch r.IntN(8) {
	case 0: // poles
		lat = right - r.Int64N(1+1<<r.IntN(28))
		if r.IntN(2) == 0 {
			lat = -lat
		}
	case 1: // the antimeridian
		lon = half - r.Int64N(1+1<<r.IntN(28))
		if r.IntN(2) == 0 {
			lon = -lon
		}
	case 2: // whole degrees
		lat, lon = (r.Int64N(181)-90)*degree, (r.Int64N(361)-180)*degree
	case 3: // rows' edges
		lat = lat>>17<<17 + int64(r.IntN(3)) - 1 - right%(1<<17)
	case 4, 5: // towns
		lat, lon = []int64{340689300, -335000000, 1, 899990000, -300000000}[r.IntN(5)], []int64{-1184451270, 1799999000, 0, 100000000, -1799999999}[r.IntN(5)]
		lat += int64(r.NormFloat64() * 5e5)
		lon += int64(r.NormFloat64() * 5e5)
	}
	return wire.Point{Lat: int32(min(max(lat, -right), right)), Lon: int32(min(max(lon, -half), half))}
}

// apart is a distance in kilometres by another formula than the table's, and its error.
func apart(p, q wire.Point) (km, err float64) {
	rad := func(v int32) float64 { return float64(v) / 1e7 * math.Pi / 180 }
	a, b := rad(p.Lat), rad(q.Lat)
	s, c := math.Sin((b-a)/2), math.Sin((rad(q.Lon)-rad(p.Lon))/2)
	h := s*s + math.Cos(a)*math.Cos(b)*c*c
	return 2 * EarthRadius * math.Asin(math.Sqrt(min(h, 1))), 1e-8
}

// anyRadius draws from 10 m to 1000 km, and now and then less.
func anyRadius(r *rand.Rand) float64 {
	return 0.01 * math.Pow(10, r.Float64()*5)
}

// anyBox draws a box of 10 m to 1000 km about.
func anyBox(r *rand.Rand, c wire.Point) (sw, ne wire.Point) {
	high := int64(anyRadius(r) / 111.195 * 1e7)
	wide := int64(anyRadius(r) / 111.195 * 1e7)
	switch r.IntN(20) {
	case 0:
		wide = 0
	case 1:
		high = 0
	case 2:
		return wire.Point{Lat: int32(max(int64(c.Lat)-high, -right)), Lon: -half}, wire.Point{Lat: c.Lat, Lon: half}
	}
	west := int64(c.Lon) - wide/2
	if west < -half {
		west += turn
	}
	east := west + wide
	if east > half {
		east -= turn
	}
	return wire.Point{Lat: int32(max(int64(c.Lat)-high/2, -right)), Lon: int32(west)}, wire.Point{Lat: int32(min(int64(c.Lat)+high/2, right)), Lon: int32(east)}
}

// inBox is L2's box, from its words.
func inBox(sw, ne, p wire.Point) bool {
	if p.Lat < sw.Lat || p.Lat > ne.Lat {
		return false
	}
	in := func(lon int32) bool {
		if sw.Lon <= ne.Lon {
			return sw.Lon <= lon && lon <= ne.Lon
		}
		return lon >= sw.Lon || lon <= ne.Lon
	}
	return in(p.Lon) || p.Lon == half && in(-half) || p.Lon == -half && in(half)
}

// visited returns the ids of those whom a Visit finds, in order.
func visited(t testing.TB, p *plain, a Area) []string {
	t.Helper()
	var v Visit
	v.Begin(p.table, a)
	met := map[uint32]bool{}
	var found []Change
	for done := false; !done; {
		found, done = p.table.Visit(&v, found[:0], p.stamp*second)
		for _, c := range found {
			met[c.Slot] = true
		}
	}
	var ids []string
	for slot := range met {
		ids = append(ids, string(p.table.AppendClient(nil, slot)))
	}
	slices.Sort(ids)
	return ids
}

// The Earth is walked on for a while, so that the grid's lists were split and clients moved.
func crowded(t testing.TB, r *rand.Rand, clients int) *plain {
	p := newPlain(Config{})
	if _, ok := p.table.Follow(); !ok {
		t.Fatal("no index")
	}
	for i := range clients {
		p.put(t, fmt.Sprint("c", i), somewhere(r))
	}
	for range clients / 2 {
		id := p.ids[r.IntN(len(p.ids))]
		to := somewhere(r)
		if r.IntN(2) == 0 { // some metres
			to = p.point[id]
			to.Lat = int32(min(max(int64(to.Lat)+r.Int64N(2001)-1000, -right), right))
		}
		p.put(t, id, to)
	}
	return p
}

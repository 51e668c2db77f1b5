package osm

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/tidwall/rtree"

	"herd/places"
	"herd/places/nearby"
)

// most is the largest Query.Max (C12).
const most = 20

// place is one place, 32 bytes without a pointer.
type place struct {
	id             int64 // OpenStreetMap's, twice, and one more for a way
	at             point
	text           uint32 // where in the text its name begins, which its vicinity follows
	name, vicinity uint16 // their lengths
	kind           uint32 // which of the lists of types
}

// index finds places that are near a point. It never changes.
//
// The places lie along a curve that keeps near ones near each other; the tree has one
// entry a run of them, a box around it. So the tree takes three bytes a place, and what
// is looked at together is together in memory.
type index struct {
	places []place
	text   string
	kinds  [][]string
	tree   rtree.RTreeGN[float64, uint32] // of a run, the number of its first place
	lost   int                            // ways that have none of their nodes in the file
}

// run is how many places share a box.
const run = 16

// newIndex makes an index of places, which it keeps. Those that are nowhere are left
// out, and of those with the same id all but one.
func newIndex(all []place, text string, kinds [][]string) *index {
	x := &index{kinds: kinds}
	before := len(all)
	all = slices.DeleteFunc(all, func(p place) bool { return p.at == nowhere })
	x.lost = before - len(all)
	slices.SortFunc(all, func(a, b place) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.text, b.text)) })
	all = slices.CompactFunc(all, func(a, b place) bool { return a.id == b.id })
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.at.curve(), b.at.curve()), cmp.Compare(a.id, b.id))
	})
	x.places, x.text = slices.Clone(all), strings.Clone(text) // without the room to grow
	for from := 0; from < len(x.places); from += run {
		low := [2]float64{math.Inf(1), math.Inf(1)}
		high := [2]float64{math.Inf(-1), math.Inf(-1)}
		for _, p := range x.run(uint32(from)) {
			lat, lon := p.at.degreesLat(), p.at.degreesLon()
			low[0], low[1] = min(low[0], lat), min(low[1], lon)
			high[0], high[1] = max(high[0], lat), max(high[1], lon)
		}
		x.tree.Insert(low, high, uint32(from))
	}
	return x
}

func (x *index) run(from uint32) []place {
	return x.places[from:min(int(from)+run, len(x.places))]
}

// size returns about how many bytes the index takes, the tree left out.
func (x *index) size() int {
	return len(x.places)*int(unsafe.Sizeof(place{})) + len(x.text)
}

// curve returns how far along a Z-order curve the point is.
func (p point) curve() uint64 {
	spread := func(n int32) uint64 {
		v := uint64(uint32(n) ^ 1<<31)
		v = (v | v<<16) & 0x0000ffff0000ffff
		v = (v | v<<8) & 0x00ff00ff00ff00ff
		v = (v | v<<4) & 0x0f0f0f0f0f0f0f0f
		v = (v | v<<2) & 0x3333333333333333
		v = (v | v<<1) & 0x5555555555555555
		return v
	}
	return spread(p.lat)<<1 | spread(p.lon)
}

// hit is a place that is near.
type hit struct {
	km, chord float64
	place     *place
}

// compare orders hits as the gazetteer does: by distance, name and id.
func (x *index) compare(a, b hit) int {
	if order := cmp.Compare(a.km, b.km); order != 0 {
		return order
	}
	return cmp.Or(strings.Compare(x.name(a.place), x.name(b.place)), strings.Compare(a.place.placeID(), b.place.placeID()))
}

func (x *index) name(p *place) string { return x.text[p.text:][:p.name] }

func (p *place) placeID() string {
	if p.id&1 == 1 {
		return "osm:way/" + strconv.FormatInt(p.id>>1, 10)
	}
	return "osm:node/" + strconv.FormatInt(p.id>>1, 10)
}

// answer returns the nearest places to q.
func (x *index) answer(q places.Query) []nearby.Place {
	hits, _ := x.search(q)
	results := make([]nearby.Place, len(hits))
	for i, h := range hits {
		results[i] = nearby.Place{
			Name:     x.name(h.place),
			PlaceID:  h.place.placeID(),
			Geometry: nearby.Geometry{Location: nearby.Location{Lat: h.place.at.degreesLat(), Lng: h.place.at.degreesLon()}},
			Types:    x.kinds[h.place.kind],
			Vicinity: x.text[h.place.text+uint32(h.place.name):][:h.place.vicinity],
		}
	}
	return results
}

// search goes through the runs of places from the nearest box on, and stops at the one
// that can have nothing to add: past the radius, or past the last of q.Max places. It
// also says how many boxes it looked at.
func (x *index) search(q places.Query) (hits []hit, boxes int) {
	const slack, speck = 1 + 1e-9, 1e-18 // for rounding; Distance decides in the end
	angle := q.Radius / places.EarthRadius * slack
	bound := 4.0 // of chords: the Earth's diameter, squared
	if angle < math.Pi {
		half := math.Sin(angle / 2)
		bound = 4*half*half*slack + speck
	}
	here, limit := places.Toward(q.Lat, q.Lon), min(q.Max, most)
	if limit == 0 || len(x.places) == 0 {
		return nil, 0
	}
	hits = make([]hit, 0, limit+1)
	from := newOrigin(q.Lat, q.Lon)
	x.tree.Nearby(
		func(low, high [2]float64, _ uint32, _ bool) float64 {
			boxes++
			return from.chord(low, high)
		},
		func(_, _ [2]float64, first uint32, least float64) bool {
			if least > bound*slack+speck {
				return false
			}
			near := x.run(first)
			for i := range near {
				there := places.Toward(near[i].at.degreesLat(), near[i].at.degreesLon())
				chord := here.Chord(there)
				if chord > bound {
					continue
				}
				h := hit{here.Distance(there), chord, &near[i]}
				if h.km > q.Radius {
					continue
				}
				at, _ := slices.BinarySearchFunc(hits, h, x.compare)
				hits = slices.Insert(hits, at, h)
				if len(hits) > limit {
					hits = hits[:limit]
				}
				if len(hits) == limit { // from now on only what is nearer than the last
					bound = min(bound, hits[limit-1].chord*slack+speck)
				}
			}
			return true
		})
	return hits, boxes
}

// origin is a point that boxes are near to or far from.
type origin struct {
	lat, lon       float64 // degrees
	sinLat, cosLat float64
}

func newOrigin(lat, lon float64) origin {
	sin, cos := math.Sincos(lat * (math.Pi / 180))
	return origin{lat, lon, sin, cos}
}

// chord returns the square of the straight line, in Earth radii, to the point of a box
// of latitudes and longitudes that is nearest on the sphere; poles and antimeridian are
// no different from other places.
func (o origin) chord(low, high [2]float64) float64 {
	const degree = math.Pi / 180
	// Along a parallel the nearest point is that of the nearest longitude.
	aside := 0.0
	if o.lon < low[1] || o.lon > high[1] {
		west, east := math.Abs(o.lon-low[1]), math.Abs(o.lon-high[1])
		aside = min(west, 360-west, east, 360-east)
	}
	lat := min(max(o.lat, low[0]), high[0])
	half := 0.0
	if aside > 0 {
		half = math.Sin(aside * (degree / 2))
		half *= half
		// On the great circle of that meridian the nearest point is where the latitude,
		// which beyond a pole goes on past 90°, is top; and nearer ones are nearer.
		top := math.Atan2(o.sinLat, o.cosLat*(1-2*half)) / degree
		lat = min(max(top, low[0]), high[0])
		if top < low[0] || top > high[0] {
			below, above := math.Abs(top-low[0]), math.Abs(top-high[0])
			lat = low[0]
			if min(above, 360-above) < min(below, 360-below) {
				lat = high[0]
			}
		}
	}
	up := math.Sin((lat - o.lat) * (degree / 2))
	return 4 * (up*up + o.cosLat*math.Cos(lat*degree)*half)
}

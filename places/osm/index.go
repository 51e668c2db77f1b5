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

// place is one place, in 32 bytes without a pointer.
type place struct {
	id             int64 // OpenStreetMap's id, doubled, plus one for a way
	at             point
	text           uint32 // offset of its name in the text; its vicinity follows
	name, vicinity uint16 // their lengths
	kind           uint32 // number of its list of types
	version        uint32 // OpenStreetMap's version; 0 if the file has none
}

// index finds places near a point. It never changes.
//
// The places are sorted along a curve that keeps neighbours together. The tree has one entry,
// a bounding box, per run of places. So the tree takes three bytes per place, and places that
// are read together are adjacent in memory.
type index struct {
	places []place
	text   string
	kinds  [][]string
	tree   rtree.RTreeGN[float64, uint32] // per run, the number of its first place
	lost   int                            // ways without any of their nodes in the file
}

// run is the number of places per box.
const run = 16

// newIndex makes an index of places, which it keeps. Places without a position are left out,
// and so are duplicates of an id; different versions of one id are an error.
func newIndex(all []place, text string, kinds [][]string) (*index, error) {
	x := &index{kinds: kinds}
	before := len(all)
	all = slices.DeleteFunc(all, func(p place) bool { return p.at == nowhere })
	x.lost = before - len(all)
	slices.SortFunc(all, func(a, b place) int { return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.text, b.text)) })
	for i := range all[:max(len(all)-1, 0)] {
		a, b := &all[i], &all[i+1]
		if a.id == b.id && a.version != b.version && a.version != 0 && b.version != 0 {
			return nil, errHistory
		}
	}
	all = slices.CompactFunc(all, func(a, b place) bool { return a.id == b.id })
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.at.curve(), b.at.curve()), cmp.Compare(a.id, b.id))
	})
	x.places, x.text = slices.Clone(all), strings.Clone(text) // without spare capacity
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
	return x, nil
}

func (x *index) run(from uint32) []place {
	return x.places[from:min(int(from)+run, len(x.places))]
}

// size returns the approximate size of the index in bytes, without the tree.
func (x *index) size() int {
	return len(x.places)*int(unsafe.Sizeof(place{})) + len(x.text)
}

// curve returns the position of the point along a Z-order curve.
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

// compare orders places at the same distance like the gazetteer: by name and id.
func (x *index) compare(a, b *place) int {
	return cmp.Or(strings.Compare(x.name(a), x.name(b)), strings.Compare(a.placeID(), b.placeID()))
}

func (x *index) name(p *place) string { return x.text[p.text:][:p.name] }

func (p *place) placeID() string {
	if p.id&1 == 1 {
		return "osm:way/" + strconv.FormatInt(p.id>>1, 10)
	}
	return "osm:node/" + strconv.FormatInt(p.id>>1, 10)
}

// answer returns the places nearest to q.
func (x *index) answer(q places.Query) []nearby.Place {
	near, _ := x.search(q)
	results := make([]nearby.Place, near.Len())
	for i := range results {
		p := near.At(i)
		results[i] = nearby.Place{
			Name:     x.name(p),
			PlaceID:  p.placeID(),
			Geometry: nearby.Geometry{Location: nearby.Location{Lat: p.at.degreesLat(), Lng: p.at.degreesLon()}},
			Types:    x.kinds[p.kind],
			Vicinity: x.text[p.text+uint32(p.name):][:p.vicinity],
		}
	}
	return results
}

// search visits runs of places in the order of their boxes' distance. It stops at the first
// box that can add nothing: beyond the radius, or beyond the last of q.Max places. It also
// returns how many boxes it visited.
func (x *index) search(q places.Query) (near *places.Nearest[place], boxes int) {
	near = places.NearestTo(q, x.compare)
	if q.Max == 0 {
		return near, 0
	}
	from := newOrigin(q.Lat, q.Lon)
	x.tree.Nearby(
		func(low, high [2]float64, _ uint32, _ bool) float64 {
			boxes++
			return from.chord(low, high)
		},
		func(_, _ [2]float64, first uint32, least float64) bool {
			if near.Beyond(least) {
				return false
			}
			run := x.run(first)
			for i := range run {
				near.Look(places.Toward(run[i].at.degreesLat(), run[i].at.degreesLon()), &run[i])
			}
			return true
		})
	return near, boxes
}

// origin is the point from which distances to boxes are measured.
type origin struct {
	lat, lon       float64 // degrees
	sinLat, cosLat float64
}

func newOrigin(lat, lon float64) origin {
	sin, cos := math.Sincos(lat * (math.Pi / 180))
	return origin{lat, lon, sin, cos}
}

// chord returns the square of the straight line, in Earth radii, to the nearest point on the
// sphere of a box of latitudes and longitudes. Poles and the antimeridian are not special.
func (o origin) chord(low, high [2]float64) float64 {
	const degree = math.Pi / 180
	// Along a parallel the nearest point has the nearest longitude.
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
		// On the great circle of that meridian the nearest point has the latitude top,
		// counted past 90° beyond a pole; other points are nearer the closer they are to it.
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

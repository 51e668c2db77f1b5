// Package gazetteer is the places provider that is built in: landmarks compiled from
// published coordinates (landmarks.tsv names the source of each) and the towns of
// github.com/tidwall/cities. It answers truly without a key, a file or a network, and
// says in every answer what it is.
//
// It knows nothing of streets, shops and opening hours: it is the last resort.
package gazetteer

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	"herd/places"
	"herd/places/nearby"
)

// Attribution is in every answer, so that nobody takes the gazetteer for more than it is.
const Attribution = `The herd's built-in gazetteer: landmarks at coordinates that others published ` +
	`(each with its source in places/gazetteer/landmarks.tsv), and towns of ` +
	`<a href="https://github.com/tidwall/cities">github.com/tidwall/cities</a>`

// most is the largest Query.Max (C12).
const most = 20

// Gazetteer is a places.Provider. It never changes: all methods may be called from any
// goroutine.
type Gazetteer struct {
	// One entry a place, in order of latitude: what is near a point lies in a band of
	// latitudes, and a scan of the band's directions is a run through memory.
	lats       []float64 // degrees
	directions []places.Direction
	places     []nearby.Place
}

// New returns the gazetteer. The error says what is wrong with the landmarks that were
// built in.
func New() (*Gazetteer, error) {
	landmarks, err := parse(landmarksTSV)
	if err != nil {
		return nil, err
	}
	all := towns()
	for _, l := range landmarks {
		all = append(all, l.place())
	}
	return index(all), nil
}

func index(all []nearby.Place) *Gazetteer {
	slices.SortFunc(all, func(a, b nearby.Place) int {
		return cmp.Or(cmp.Compare(a.Geometry.Location.Lat, b.Geometry.Location.Lat), strings.Compare(a.PlaceID, b.PlaceID))
	})
	g := &Gazetteer{places: all}
	for _, p := range all {
		at := p.Geometry.Location
		g.lats = append(g.lats, at.Lat)
		g.directions = append(g.directions, places.Toward(at.Lat, at.Lng))
	}
	return g
}

// Name returns gazetteer.
func (g *Gazetteer) Name() string { return "gazetteer" }

// Instant marks a provider that answers from memory in microseconds (places.Instant).
func (g *Gazetteer) Instant() {}

// hit is a place that is near.
type hit struct {
	km, chord float64
	place     *nearby.Place
}

func compare(a, b hit) int {
	return cmp.Or(cmp.Compare(a.km, b.km),
		strings.Compare(a.place.Name, b.place.Name), strings.Compare(a.place.PlaceID, b.place.PlaceID))
}

// Nearby returns the places within q.Radius, which is inclusive, nearest first and
// between equally near ones by name, then id. It takes microseconds and does not look
// at ctx more than once. The types of the places are shared between answers.
func (g *Gazetteer) Nearby(ctx context.Context, q places.Query) (nearby.Answer, error) {
	if err := ctx.Err(); err != nil {
		return nearby.Answer{}, err
	}
	if !(math.Abs(q.Lat) <= 90 && math.Abs(q.Lon) <= 180 && q.Radius >= 0 && q.Max >= 0) { // NaN included
		return nearby.Answer{}, places.ErrInvalid
	}
	hits := g.search(q)
	results := make([]nearby.Place, len(hits))
	for i, h := range hits {
		results[i] = *h.place
	}
	return nearby.Found([]string{Attribution}, results), nil
}

func (g *Gazetteer) search(q places.Query) []hit {
	// Two points are never closer than their latitudes are: true at the poles and at
	// the antimeridian too. The slack is for rounding; Distance decides in the end.
	const slack, speck = 1 + 1e-9, 1e-18
	angle := q.Radius / places.EarthRadius * slack
	reach := angle*(180/math.Pi) + 1e-9
	bound := 4.0 // of chords: the Earth's diameter, squared
	if angle < math.Pi {
		half := math.Sin(angle / 2)
		bound = 4*half*half*slack + speck
	}

	here, limit := places.Toward(q.Lat, q.Lon), min(q.Max, most)
	hits := make([]hit, 0, limit+1)
	from, _ := slices.BinarySearch(g.lats, q.Lat-reach)
	for i := from; i < len(g.lats) && g.lats[i] <= q.Lat+reach; i++ {
		chord := here.Chord(g.directions[i])
		if chord > bound {
			continue
		}
		h := hit{here.Distance(g.directions[i]), chord, &g.places[i]}
		if h.km > q.Radius {
			continue
		}
		at, _ := slices.BinarySearchFunc(hits, h, compare)
		hits = slices.Insert(hits, at, h)
		if len(hits) > limit {
			hits = hits[:limit]
		}
		if limit > 0 && len(hits) == limit { // from now on only what is nearer than the last
			bound = min(bound, hits[limit-1].chord*slack+speck)
		}
	}
	return hits
}

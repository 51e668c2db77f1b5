// Package gazetteer is the built-in provider of places: landmarks compiled from published
// coordinates (landmarks.tsv names the source of each) and the towns of
// github.com/tidwall/cities. It gives correct answers without a key, a file or a network, and
// every answer says where its data is from.
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

// Attribution is in every answer, so that nobody mistakes the gazetteer for a full map.
const Attribution = `The herd's built-in gazetteer: landmarks at coordinates that others published ` +
	`(each with its source in places/gazetteer/landmarks.tsv), and towns of ` +
	`<a href="https://github.com/tidwall/cities">github.com/tidwall/cities</a>`

// Gazetteer is a places.Provider. It never changes: all methods may be called from any
// goroutine.
type Gazetteer struct {
	// One entry per place, sorted by latitude: the places near a point are in a band of
	// latitudes, and scanning a band's directions reads memory in order.
	lats       []float64 // degrees
	directions []places.Direction
	places     []nearby.Place
}

// New returns the gazetteer. An error means that the built-in landmarks are invalid.
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

// compare orders places at the same distance.
func compare(a, b *nearby.Place) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.PlaceID, b.PlaceID))
}

// Nearby returns the places within q.Radius (inclusive), nearest first, and at the same
// distance by name, then id. It takes microseconds and checks ctx only once. Answers share
// the types of the places.
func (g *Gazetteer) Nearby(ctx context.Context, q places.Query) (nearby.Answer, error) {
	if err := ctx.Err(); err != nil {
		return nearby.Answer{}, err
	}
	if !(math.Abs(q.Lat) <= 90 && math.Abs(q.Lon) <= 180 && q.Radius >= 0 && q.Max >= 0) { // also false for NaN
		return nearby.Answer{}, places.ErrInvalid
	}
	near := places.NearestTo(q, compare)
	// Two points are never closer than the difference of their latitudes, even at the poles
	// and at the antimeridian. The slack is for rounding; Distance decides in the end.
	reach := q.Radius/places.EarthRadius*(180/math.Pi)*(1+1e-9) + 1e-9
	from, _ := slices.BinarySearch(g.lats, q.Lat-reach)
	for i := from; i < len(g.lats) && g.lats[i] <= q.Lat+reach; i++ {
		near.Look(g.directions[i], &g.places[i])
	}
	results := make([]nearby.Place, near.Len())
	for i := range results {
		results[i] = *near.At(i)
	}
	return nearby.Found([]string{Attribution}, results), nil
}

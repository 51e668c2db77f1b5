package places

import (
	"cmp"
	"math"
	"slices"
)

// For rounding of chords, relative and absolute. Distance decides in the end.
const slack, speck = 1 + 1e-9, 1e-18

// Nearest collects the places that answer a Query: of all places that it is shown within the
// radius (inclusive), the nearest, at most Query.Max and at most C12's 20. It is for
// providers that hold their places in memory. It keeps pointers to the places.
type Nearest[P any] struct {
	here    Direction
	radius  float64
	limit   int
	compare func(a, b *P) int
	bound   float64 // of chords: a place beyond it is not among the nearest
	hits    []hit[P]
}

type hit[P any] struct {
	km, chord float64
	place     *P
}

// NearestTo begins a collection. compare orders places at the same distance.
func NearestTo[P any](q Query, compare func(a, b *P) int) *Nearest[P] {
	n := &Nearest[P]{here: Toward(q.Lat, q.Lon), radius: q.Radius, limit: min(q.Max, most), compare: compare, bound: 4} // the Earth's diameter, squared
	if angle := q.Radius / EarthRadius * slack; angle < math.Pi {
		half := math.Sin(angle / 2)
		n.bound = 4*half*half*slack + speck
	}
	if n.limit <= 0 {
		n.bound = -1
	}
	n.hits = make([]hit[P], 0, n.limit+1)
	return n
}

// Look adds p, which is at there, if it is one of the nearest so far.
func (n *Nearest[P]) Look(there Direction, p *P) {
	if chord := n.here.Chord(there); chord <= n.bound {
		n.take(there, chord, p)
	}
}

func (n *Nearest[P]) take(there Direction, chord float64, p *P) {
	h := hit[P]{n.here.Distance(there), chord, p}
	if h.km > n.radius {
		return
	}
	at, _ := slices.BinarySearchFunc(n.hits, h, func(a, b hit[P]) int {
		if order := cmp.Compare(a.km, b.km); order != 0 {
			return order
		}
		return n.compare(a.place, b.place)
	})
	n.hits = slices.Insert(n.hits, at, h)
	if len(n.hits) > n.limit {
		n.hits = n.hits[:n.limit]
	}
	if len(n.hits) == n.limit { // from now on only places nearer than the last count
		n.bound = min(n.bound, n.hits[n.limit-1].chord*slack+speck)
	}
}

// Beyond reports whether all places at this chord or farther can be skipped. chord is the
// square of a straight line, as returned by Direction.Chord.
func (n *Nearest[P]) Beyond(chord float64) bool { return chord > n.bound*slack+speck }

// Len returns how many places were collected.
func (n *Nearest[P]) Len() int { return len(n.hits) }

// At returns the i-th nearest place; 0 is the nearest.
func (n *Nearest[P]) At(i int) *P { return n.hits[i].place }

package position

import "math/bits"

// An origin is from whom a record's line came first, and whether the line counts for less than
// its client's time (S2). It is noted in a byte that the record has anyway.
type origin uint8

const (
	originClamped origin = 1 << 7
	originOf6     origin = 1<<6 - 1

	// Below these are the numbers of neighbours, from 1 on.
	originClient  origin = 0
	originUnknown origin = MaxNeighbours + 1 // a neighbour whose number is too high to be noted
	originJournal origin = MaxNeighbours + 2
)

func originOf(kind Kind, bit uint32, clamped bool) origin {
	o := originUnknown
	switch {
	case kind == PutOwn:
		o = originClient
	case kind == PutKept:
		o = originJournal
	case bit != 0:
		o = origin(bits.TrailingZeros32(bit) + 1)
	}
	if clamped {
		o |= originClamped
	}
	return o
}

func (o origin) clamped() bool { return o&originClamped != 0 }

// A From says from whom a line came.
type From uint8

const (
	FromClient    From = iota // the client itself: an IAMAT that this edge received
	FromNeighbour             // over a link
	FromJournal               // this edge's journal, when the edge started (D2)
)

// From returns from whom the line came that is held, and for FromNeighbour the number of the
// neighbour from which it came first; 0 where that was not noted.
func (r Record) From() (from From, neighbour int) {
	switch o := r.r.origin & originOf6; o {
	case originClient:
		return FromClient, 0
	case originJournal:
		return FromJournal, 0
	case originUnknown:
		return FromNeighbour, 0
	default:
		return FromNeighbour, int(o)
	}
}

// Effective returns the time by which the line is ordered (S2), in Unix nanoseconds.
func (r Record) Effective() int64 { return r.r.effective }

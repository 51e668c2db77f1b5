package devices

import "sync/atomic"

// An Outcome is how a request, or one of its positions, went, as metrics name it.
type Outcome uint8

const (
	OK       Outcome = iota // a request: 2xx; a position: stored
	Bad                     // a request: 400, no parser knows it
	Denied                  // a request: 401; a position: of a device that the caller may not report
	Foreign                 // a request: 403, a page of another site
	Misled                  // a request: 421, the host asked for is unknown
	Large                   // a request: 413
	Method                  // a request: 405
	Later                   // a request: 503
	Gone                    // the sender went away before it was answered
	Older                   // a position: C11
	Expired                 // a position: S4
	Full                    // a position: C18
	Unkept                  // a position: the journal did not take it in time (D3)
	Never                   // a position: the journal will never take it (D6)
	Invalid                 // a position: it never can be one (C7, C8)
	Nameless                // a position: its id is empty or too long (V6)
	Secret                  // a position: encrypted
	outcomes
)

func (o Outcome) String() string {
	return [outcomes]string{"ok", "bad", "denied", "foreign", "misdirected", "large", "method", "later", "gone",
		"older", "expired", "full", "unkept", "never", "invalid", "nameless", "encrypted"}[o]
}

// What requests and positions can end in, of each app.
var (
	requestEnds = [apps][]Outcome{
		Unknown:   {OK, Bad, Denied, Foreign, Misled, Large, Method, Later, Gone},
		OsmAnd:    {OK, Denied, Foreign, Later, Gone},
		Traccar:   {OK, Denied, Later, Gone},
		OwnTracks: {OK, Denied, Later, Gone},
		Overland:  {OK, Denied, Later, Gone},
		Lines:     {OK, Bad, Foreign, Later},
		Page:      {OK, Later},
	}
	positionEnds = []Outcome{OK, Older, Expired, Full, Denied, Unkept, Never, Gone, Invalid, Nameless}
)

// countOf counts one thing since the start.
type countOf = atomic.Uint64

// counts count since the start.
type counts struct {
	requests, positions [apps][outcomes]countOf
}

// A Count is how often something of an app ended in an outcome since the start.
type Count struct {
	App     App
	Outcome Outcome
	N       uint64
}

// Stats are a Server's numbers.
type Stats struct {
	// Requests and Positions have all pairs that can occur, those that are zero too: a rate needs
	// a beginning.
	Requests, Positions []Count
}

// Stats may be called from any goroutine.
func (s *Server) Stats() Stats {
	var st Stats
	for a := range apps {
		for _, o := range requestEnds[a] {
			st.Requests = append(st.Requests, Count{a, o, s.count.requests[a][o].Load()})
		}
		if a == Unknown || a >= Lines {
			continue
		}
		for _, o := range positionEnds {
			st.Positions = append(st.Positions, Count{a, o, s.count.positions[a][o].Load()})
		}
	}
	st.Positions = append(st.Positions, Count{OwnTracks, Secret, s.count.positions[OwnTracks][Secret].Load()})
	return st
}

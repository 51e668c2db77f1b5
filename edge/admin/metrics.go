package admin

import "time"

// Metrics is what one edge has counted since its start, and how things stand.
// Maps and slices are read after the function that returned them, and must not
// change any more. What an edge does not have is nil or empty, and is left out
// of /metrics; the other values are always there.
type Metrics struct {
	Commands           []CommandCount
	CommandSeconds     map[string]Histogram // by command; receipt to answer ready
	PropagationSeconds Histogram            // receipt at the first edge to stored here

	Connections        int
	ConnectionsRefused uint64            // C18, when full
	ConnectionsClosed  map[string]uint64 // by reason

	CertificateExpires time.Time // of the client port; zero without TLS

	Positions          int
	PositionsForgotten uint64 // S4

	Links           []LinkMetrics
	BrokerConnected bool

	JournalLag *uint64 // revisions that the journal does not hold yet; nil without one

	PlacesRequests []PlacesCount
	PlacesSeconds  map[string]Histogram // by provider
	PlacesBreaker  map[string]bool      // by provider: no questions for now
	PlacesBudget   map[string]int       // by provider: questions left today
	PlacesKnown    map[string]int       // by provider that reads them from a file: places

	TranscriptDropped uint64 // lines (C20)
}

// CommandCount counts the commands of one kind that ended in one way. A pair
// occurs once.
type CommandCount struct {
	Command string // iamat, whatsat, at, other
	Outcome string // ok, older, invalid, ...
	Count   uint64
}

// PlacesCount counts the questions to one provider that ended in one way. A
// pair occurs once.
type PlacesCount struct {
	Provider, Outcome string
	Count             uint64
}

// LinkMetrics is the link to one neighbour.
type LinkMetrics struct {
	Neighbour string

	Up               bool
	Lag              uint64 // revisions not yet acknowledged
	RoundTripSeconds float64
	ClockSeconds     float64
	ConfigDiffers    bool

	SentLines, ReceivedLines, DuplicateLines, RefusedLines, Rewinds uint64
}

// Histogram counts durations in seconds.
type Histogram struct {
	Buckets []float64 // upper bounds, rising, without infinity
	Counts  []uint64  // one a bucket: those above the bound before it, not a running total
	Sum     float64
	Count   uint64 // of all, those above the last bound included
}

package admin

import "time"

// Metrics is what one edge has counted since its start, and its current state. Maps and
// slices are read after the function that returned them, and must not change any more. What
// an edge does not have is nil or empty and is left out of /metrics; the other values are
// always exported.
type Metrics struct {
	Commands           []CommandCount
	CommandSeconds     map[string]Histogram // by command; from receipt until the answer is ready
	PropagationSeconds Histogram            // from receipt at the first edge until stored here
	OlderSeconds       Histogram            // by how much an IAMAT was older than the stored position

	Connections        int
	ConnectionsPending int64             // bytes held for connections or answers that wait (C18)
	ConnectionsRefused uint64            // refused because there were too many (C18)
	ConnectionsClosed  map[string]uint64 // by reason

	CertificateExpires time.Time // of the client port's certificate; zero without TLS

	Positions          int
	PositionsBytes     int    // memory of their table (C18)
	PositionsForgotten uint64 // S4

	Live    *LiveMetrics    // nil with HERD_LIVE=off
	Devices *DevicesMetrics // nil where HERD_DEVICES is off

	ClockInDoubt          bool     // H8
	RetentionClockSeconds *float64 // the retention clock less the wall clock (S4); nil: positions are not forgotten, or not yet
	RetentionParts        *uint64  // how often the two parted; nil: positions are not forgotten

	Links            []LinkMetrics
	BrokerConnected  bool
	BrokerReconnects uint64 // connections after the first

	Journal *JournalMetrics // nil if the journal is off

	PlacesRequests []PlacesCount
	PlacesSeconds  map[string]Histogram // by provider
	PlacesBreaker  map[string]bool      // by provider: the provider is not asked for now
	PlacesBudget   map[string]int       // by provider: questions left today
	PlacesKnown    map[string]int       // places per provider that reads them from a file

	TranscriptDropped uint64 // lines (C20)
}

// CommandCount counts the commands of one kind with one outcome. Each pair occurs once.
type CommandCount struct {
	Command string // iamat, whatsat, whosat, watch, unwatch, at, other
	Outcome string // ok, older, invalid, ...
	Count   uint64
}

// PlacesCount counts the questions to one provider with one outcome. Each pair occurs once.
type PlacesCount struct {
	Provider, Outcome string
	Count             uint64
}

// LinkMetrics describes the link to one neighbour.
type LinkMetrics struct {
	Neighbour string

	Up               bool
	Lag              uint64  // revisions not yet acknowledged
	RoundTripSeconds float64 // shown while Out
	ClockSeconds     float64 // shown while In
	ConfigDiffers    bool
	In, Out          bool // the two directions; Up means both

	PutOff     uint64 // lines too far ahead of this edge's clock (H9)
	Unsendable uint64 // lines that fit in no message (H5)

	SentLines, ReceivedLines, DuplicateLines, RefusedLines, Rewinds, Downs uint64

	SentMessages, ReceivedMessages uint64 // including heartbeats, not acks
	SentBytes, ReceivedBytes       uint64 // of the lines in the messages
}

// LiveMetrics describes the live questions that are followed (L).
type LiveMetrics struct {
	Watches int               // open now
	Members int               // clients inside them
	Marked  uint64            // changes of which they were to tell
	Told    map[string]uint64 // lines by event: in, at, out, now, off
	Ended   map[string]uint64 // watches by reason: unwatch, closed, full, slow, stopping
	Seconds Histogram         // from a change's being stored until the line that tells of it is written
}

// DevicesMetrics counts what devices' apps sent (V).
type DevicesMetrics struct {
	Requests, Positions []AppCount
}

// AppCount counts what was sent in one form with one outcome. Each pair occurs once.
type AppCount struct {
	App, Outcome string
	Count        uint64
}

// JournalMetrics describes the journal.
type JournalMetrics struct {
	Up      bool   // it can be written (D5)
	Lag     uint64 // revisions that it does not hold yet
	Skipped uint64 // lines that it can never take (D6)
	LeftOut int    // clients left out because it is nearly full (D6)

	FullRatio float64 // from 0 to 1; 0 if it has no limit

	Replicas, Copies int // NATS servers that should hold it, and that do; left out while Replicas is 0

	Writes, Errors uint64    // acknowledged writes; calls that failed
	Seconds        Histogram // from a write to its acknowledgement
}

// Histogram counts durations in seconds.
type Histogram struct {
	Buckets []float64 // upper bounds, ascending, without infinity
	Counts  []uint64  // per bucket: values above the previous bound, not a running total
	Sum     float64
	Count   uint64 // of all values, including those above the last bound
}

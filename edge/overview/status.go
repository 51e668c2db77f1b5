package overview

import (
	"encoding/json"
	"time"
)

// Status is an edge at one moment, as `<prefix>.edge.<EDGE>.status` and the status page
// report it. Other programs rely on its JSON.
type Status struct {
	Edge        string       `json:"edge"`
	Epoch       string       `json:"epoch"`   // of this run (H3)
	Version     string       `json:"version"` // of the program
	Ready       bool         `json:"ready"`   // as in /readyz
	Why         string       `json:"why"`     // why it is not ready; empty if it is
	Clients     int          `json:"clients"` // whose positions it holds
	Connections int          `json:"connections"`
	Revision    uint64       `json:"revision"` // its newest (H3)
	Topology    string       `json:"topology"` // as configured: its links, sorted
	Links       []LinkStatus `json:"links"`    // one per neighbour
	Journal     Journal      `json:"journal"`
	Watches     int          `json:"watches,omitempty"`       // open now (L)
	Members     int          `json:"watch_members,omitempty"` // clients inside them
	TableBytes  int          `json:"table_bytes,omitempty"`   // memory of the table (C18)

	Commit        string    `json:"commit,omitempty"`        // of the program
	Started       time.Time `json:"started,omitzero"`        // this run
	ReadySince    time.Time `json:"ready_since,omitzero"`    // since when Ready is as it is
	Configuration string    `json:"configuration,omitempty"` // a hash of what neighbours must have in common (H7)

	Process Process `json:"process,omitzero"`
	Counts  Counts  `json:"counts,omitzero"`
	Rates   *Rates  `json:"rates,omitempty"` // nil: the run is too young

	BrokerConnected bool      `json:"broker_connected"`
	BrokerServer    string    `json:"broker_server,omitempty"` // its URL, without a secret
	BrokerAt        time.Time `json:"broker_since,omitzero"`   // since when it is connected, or away

	Broker      string    `json:"broker"`                     // such as "connected nats://127.0.0.1:4222"; holds no secret
	BrokerSince time.Time `json:"broker_away_since,omitzero"` // left out while connected
	BrokerError string    `json:"broker_error,omitempty"`     // why it is away, or its last complaint
	// CertificateExpires is the end of the client port's certificate; left out without TLS.
	CertificateExpires time.Time `json:"certificate_expires,omitzero"`

	Clock string `json:"clock,omitempty"` // what is wrong with its clock, in words; "" means nothing

	Places []PlacesStatus `json:"places"` // one per provider, in order of preference

	Events  []Event  `json:"events,omitempty"`  // the last ones, oldest first; bounded in number and bytes
	History *History `json:"history,omitempty"` // of the last ten minutes, where it was asked for
}

// A Question is what an edge's status may be asked with.
type Question struct {
	History     bool   `json:"history,omitempty"`
	EventsAfter string `json:"events_after,omitempty"` // leave the events out if this is the newest one's ID
}

// A Process is the operating system's process that an edge runs in, perhaps with others.
type Process struct {
	ID         string   `json:"id"` // the same for edges that share a process
	Host       string   `json:"host,omitempty"`
	CPU        *float64 `json:"cpu_cores,omitempty"`    // how many cores it kept busy over the last seconds; nil: not known
	Memory     uint64   `json:"memory_bytes,omitempty"` // resident; 0: not known
	Goroutines int      `json:"goroutines"`
	Cores      int      `json:"cores"` // that it may use
}

// Counts are what an edge has counted since it started.
type Counts struct {
	Updates   uint64 `json:"updates"`   // IAMATs that it took
	Questions uint64 `json:"questions"` // WHATSAT, WHOSAT, WATCH
	Refusals  uint64 `json:"refusals"`  // commands answered with `? `, and connections refused
	Answers   uint64 `json:"answers"`   // those whose time was measured
}

// Rates are what an edge did over its last seconds.
type Rates struct {
	Over      float64  `json:"over_seconds"`
	Updates   float64  `json:"updates_per_second"`
	Questions float64  `json:"questions_per_second"`
	Refusals  float64  `json:"refusals_per_second"`
	P99       *float64 `json:"p99_seconds,omitempty"` // of answers, an upper bound; nil: there was none
}

// LinkStatus describes the link to one neighbour.
type LinkStatus struct {
	Neighbour        string    `json:"neighbour"`
	Up               bool      `json:"up"`                  // H8
	Lag              uint64    `json:"lag"`                 // revisions not acknowledged
	RoundTripSeconds float64   `json:"round_trip_seconds"`  // of the last ack; 0 if there was none, or no acks arrive
	ClockSeconds     float64   `json:"clock_seconds"`       // its clock less this edge's; 0 if it is not heard
	ConfigDiffers    bool      `json:"config_differs"`      // H7
	Downs            uint64    `json:"downs"`               // how often it went down since the start (H8)
	In               bool      `json:"in"`                  // its messages arrive here; Up means In and Out (H8)
	Out              bool      `json:"out"`                 // this edge's messages arrive there, by its acks
	DownSince        time.Time `json:"down_since,omitzero"` // when it went down; left out if it is up or never was

	State    string    `json:"state,omitempty"`    // up, in only, out only, down, never (never up since the start)
	Since    time.Time `json:"since,omitzero"`     // of State; left out if it never changed
	InSince  time.Time `json:"in_since,omitzero"`  // since when In is as it is; left out if it never was true
	OutSince time.Time `json:"out_since,omitzero"` // since when Out is
	Reason   string    `json:"reason,omitempty"`   // why it went down, in words; "" while it is up, or never was

	SentLines         uint64  `json:"sent_lines"` // since the start
	SentBytes         uint64  `json:"sent_bytes"`
	ReceivedLines     uint64  `json:"received_lines"`
	ReceivedBytes     uint64  `json:"received_bytes"`
	SentLinesRate     float64 `json:"sent_lines_per_second"` // over the last seconds, as Rates
	SentBytesRate     float64 `json:"sent_bytes_per_second"`
	ReceivedLinesRate float64 `json:"received_lines_per_second"`
	ReceivedBytesRate float64 `json:"received_bytes_per_second"`

	PutOff     uint64 `json:"put_off_lines"`    // from it, because their time is too far ahead of this edge's clock (H9)
	Unsendable uint64 `json:"unsendable_lines"` // to it, because they fit in no message (H5)
}

// BrokerState is where the broker is, and, where it is away, since when and why; for people.
func (s Status) BrokerState() string {
	text := s.Broker
	if !s.BrokerSince.IsZero() {
		text += " " + Since(s.BrokerSince)
	}
	if s.BrokerError != "" {
		text += ": " + s.BrokerError
	}
	return text
}

// CertificateWarning is how long before its end a certificate is told of: as the alarm
// HerdCertificateExpires.
const CertificateWarning = 14 * 24 * time.Hour

// Certificate says for people when the client port's certificate expires or has expired, and
// which of the two; "": not soon, or there is none.
func (s Status) Certificate(now time.Time) (text string, expired bool) {
	at := s.CertificateExpires
	if at.IsZero() || at.Sub(now) >= CertificateWarning {
		return "", false
	}
	if !at.After(now) {
		return "expired " + Since(at), true
	}
	return "expires on " + at.UTC().Format(Moment), false
}

// Words returns the state of the link in a word or two (H8).
func (l LinkStatus) Words() string {
	switch {
	case l.Up:
		return "up"
	case l.In:
		return "in only"
	case l.Out:
		return "out only"
	}
	return "down"
}

// Journal describes the journal (D1): how it is used, its state, and how far it is behind.
type Journal struct {
	Mode  string `json:"mode"`  // off, auto, on
	Up    bool   `json:"up"`    // it can be written (D5)
	Lag   uint64 `json:"lag"`   // revisions that it does not hold yet
	Error string `json:"error"` // why it is not up or takes no new clients

	Since  time.Time `json:"since,omitzero"`   // since when Up is as it is; left out if it was not tried yet
	Writes uint64    `json:"writes,omitempty"` // acknowledged since the start, of a line or more each
	Errors uint64    `json:"errors,omitempty"` // failed calls of its store

	DownSince time.Time `json:"down_since,omitzero"` // left out if it is up or was not tried yet

	FullRatio  float64 `json:"full_ratio,omitempty"`  // from 0 to 1, if it has a limit
	NearlyFull bool    `json:"nearly_full,omitempty"` // it takes no new clients (D6)
	LeftOut    int     `json:"left_out,omitempty"`    // clients left out for that reason
	Skipped    uint64  `json:"skipped,omitempty"`     // lines that it can never take (D6)
	Replicas   int     `json:"replicas,omitempty"`    // how many NATS servers should hold it
	Copies     int     `json:"copies,omitempty"`      // how many hold it and are up to date
}

// PlacesStatus describes one provider of places.
type PlacesStatus struct {
	Provider    string `json:"provider"`
	BreakerOpen bool   `json:"breaker_open"`          // it failed too often and is not asked for now
	BudgetLeft  *int   `json:"budget_left,omitempty"` // questions left today; nil means no limit
}

// Left formats the budget for people; empty means no limit.
func (p PlacesStatus) Left() string {
	if p.BudgetLeft == nil {
		return ""
	}
	return Count(*p.BudgetLeft)
}

// MarshalJSON writes a lone edge's links as an empty list, never as null.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status // without this method
	if s.Links == nil {
		s.Links = []LinkStatus{}
	}
	if s.Places == nil {
		s.Places = []PlacesStatus{}
	}
	return json.Marshal(plain(s))
}

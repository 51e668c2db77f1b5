package admin

import "encoding/json"

// Status is an edge at one moment, as `<prefix>.edge.<EDGE>.status` and the
// status page tell it. Its JSON is a name that others rely on.
type Status struct {
	Edge        string       `json:"edge"`
	Epoch       string       `json:"epoch"`   // of this run (H3)
	Version     string       `json:"version"` // of the program
	Ready       bool         `json:"ready"`   // listening and joined (H7)
	Clients     int          `json:"clients"` // whose positions it holds
	Connections int          `json:"connections"`
	Revision    uint64       `json:"revision"` // its newest (H3)
	Links       []LinkStatus `json:"links"`    // one a neighbour
	Journal     Journal      `json:"journal"`
	Broker      string       `json:"broker"` // such as "connected nats://127.0.0.1:4222"; no secret in it
}

// LinkStatus is the link to one neighbour.
type LinkStatus struct {
	Neighbour        string  `json:"neighbour"`
	Up               bool    `json:"up"`                 // H8
	Lag              uint64  `json:"lag"`                // revisions that it has not acknowledged
	RoundTripSeconds float64 `json:"round_trip_seconds"` // of the last ack; 0 where there was none
	ClockSeconds     float64 `json:"clock_seconds"`      // its clock less this edge's
	ConfigDiffers    bool    `json:"config_differs"`     // H7
}

// Journal is how the journal (D1) is used and how far it is behind.
type Journal struct {
	Mode string `json:"mode"` // off, auto, on
	Lag  uint64 `json:"lag"`  // revisions that it does not hold yet
}

// MarshalJSON writes a lone edge's links as an empty list, never as null.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status // without this method
	if s.Links == nil {
		s.Links = []LinkStatus{}
	}
	return json.Marshal(plain(s))
}

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

	Places []PlacesStatus `json:"places"` // one a provider, in order of preference
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

// PlacesStatus is one provider of places.
type PlacesStatus struct {
	Provider    string `json:"provider"`
	BreakerOpen bool   `json:"breaker_open"`          // it is not asked for now, because it failed too often
	BudgetLeft  *int   `json:"budget_left,omitempty"` // questions that may still go to it today; nil is no limit
}

// Left writes the budget for people; empty where there is no limit.
func (p PlacesStatus) Left() string {
	if p.BudgetLeft == nil {
		return ""
	}
	return count(*p.BudgetLeft)
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

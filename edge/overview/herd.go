package overview

import "time"

// A Herd is the whole herd at one moment, as the page shows it and /status.json answers. Other
// programs rely on its JSON. What is unknown is left out.
type Herd struct {
	At      time.Time `json:"at"` // by the clock of who put it together
	Server  Server    `json:"server"`
	Summary Summary   `json:"summary"`
	Totals  Totals    `json:"totals"`
	Edges   []Edge    `json:"edges"`  // that anybody names, by name
	Links   []Link    `json:"links"`  // that anybody names, by their ends
	Events  []Event   `json:"events"` // the last of all edges, newest first
	History History   `json:"history"`
	Columns Columns   `json:"columns"`
}

// A Server is who answers, and what it may know.
type Server struct {
	Name         string    `json:"name"` // an edge's, or the tool's command
	Version      string    `json:"version"`
	Commit       string    `json:"commit,omitempty"`
	Started      time.Time `json:"started,omitzero"`
	Scope        string    `json:"scope"`                   // ScopeHerd or ScopeEdge
	ScopeNote    string    `json:"scope_note,omitempty"`    // why it is ScopeEdge
	ScopeCommand string    `json:"scope_command,omitempty"` // which command shows all then
	BrokerAway   bool      `json:"broker_away,omitempty"`   // it can ask no other edge now
	Map          Switch    `json:"map"`                     // the map and all else that shows positions
}

const (
	ScopeHerd = "herd" // it sees all edges
	ScopeEdge = "edge" // it sees only its own, because of the broker's accounts
)

// A Switch is whether something is on, and if not, why.
type Switch struct {
	On  bool   `json:"on"`
	Why string `json:"why,omitempty"`
}

// A Level is how bad something is.
type Level string

const (
	OK      Level = "ok"
	Warning Level = "warning" // something is wrong, and nothing is down
	Down    Level = "down"
	Unknown Level = "unknown" // it cannot be seen from here
)

// A Summary says how the herd is.
type Summary struct {
	Level    Level     `json:"level"`
	Sentence string    `json:"sentence"`
	Short    string    `json:"short"`          // at most 40 characters
	Since    time.Time `json:"since,omitzero"` // the first of the worst problems
	Problems []Problem `json:"problems"`       // worst first
}

// A Problem is one thing that is wrong, in words, and what to look at next.
type Problem struct {
	Level Level     `json:"level"` // Warning or Down
	Text  string    `json:"text"`  // What and More; without Since
	What  string    `json:"what"`  // the problem itself: "Clark is silent"
	More  string    `json:"more,omitempty"`
	Short string    `json:"short"` // "Clark silent"
	Since time.Time `json:"since,omitzero"`
	Edges []string  `json:"edges"`
	Links []string  `json:"links"` // as "A-B", by name
	Next  string    `json:"next,omitempty"`
}

// Totals are sums over the edges that answered.
type Totals struct {
	Edges       int      `json:"edges"`
	EdgesReady  int      `json:"edges_ready"`
	EdgesHidden int      `json:"edges_hidden"`
	Links       int      `json:"links"`    // those that can be seen
	LinksUp     int      `json:"links_up"` // in both directions
	Clients     int      `json:"clients"`  // the most that one edge holds
	Connections int      `json:"connections"`
	Watches     int      `json:"watches"`
	Updates     float64  `json:"updates_per_second"`
	Questions   float64  `json:"questions_per_second"`
	Refusals    float64  `json:"refusals_per_second"`
	P99         *float64 `json:"p99_seconds,omitempty"` // the worst edge's; nil: nothing was answered
	Lag         uint64   `json:"lag"`                   // the largest of a direction of a link
}

// An Edge is one edge, whether it answered or not.
type Edge struct {
	Name            string    `json:"name"`
	State           string    `json:"state"` // one of the constants below
	Level           Level     `json:"level"`
	Words           string    `json:"words"` // the state in a few words
	Why             string    `json:"why,omitempty"`
	Since           time.Time `json:"since,omitzero"` // of State
	Parts           bool      `json:"parts_herd"`     // without it, others would not reach each other
	Neighbours      []string  `json:"neighbours"`
	TopologyDiffers bool      `json:"topology_differs"` // from that of most edges
	ConfigDiffers   []string  `json:"config_differs,omitempty"`
	Status          *Status   `json:"status,omitempty"` // without events and history; nil if it did not answer
}

const (
	Ready    = "ready"
	NotReady = "not_ready"
	Silent   = "silent" // it did not answer, and nobody hears it
	Hidden   = "hidden" // it did not answer, and this server may not ask it, or cannot
)

// A Link is a link with both its directions. A is before B.
type Link struct {
	A             string    `json:"a"`
	B             string    `json:"b"`
	State         string    `json:"state"` // one of the constants below, or Silent
	Level         Level     `json:"level"`
	Words         string    `json:"words"`
	Since         time.Time `json:"since,omitzero"`
	Parts         bool      `json:"parts_herd"` // without it, edges would not reach each other
	ConfigDiffers bool      `json:"config_differs"`
	AB            Direction `json:"ab"`
	BA            Direction `json:"ba"`
}

const (
	LinkUp      = "up"
	LinkHalf    = "half" // one direction works
	LinkDown    = "down"
	LinkNever   = "never"   // it was never up since its ends started
	LinkUnknown = "unknown" // neither end can be seen from here
)

// A Direction is one of the two directions of a link.
type Direction struct {
	State     string    `json:"state"` // LinkUp, LinkDown, LinkNever, LinkUnknown
	Since     time.Time `json:"since,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	Lag       *uint64   `json:"lag,omitempty"`                // revisions of its sender that its receiver has not acknowledged
	RoundTrip float64   `json:"round_trip_seconds,omitempty"` // from a message to its ack
	Lines     *float64  `json:"lines_per_second,omitempty"`
	Bytes     *float64  `json:"bytes_per_second,omitempty"`
}

// An Event is something that happened at an edge, as its log has it.
type Event struct {
	ID        string    `json:"id"` // of the edge's run and the event
	At        time.Time `json:"at"`
	Edge      string    `json:"edge"`
	Level     string    `json:"level"` // info, warning, error
	Event     string    `json:"event"` // the log's message
	Text      string    `json:"text"`  // for people
	Neighbour string    `json:"neighbour,omitempty"`
	Until     time.Time `json:"until,omitzero"` // when it was over
	Open      bool      `json:"open,omitempty"` // it still holds
}

// A History is how the last ten minutes went, oldest first. All lists are of one length, and nil
// is what is not known.
type History struct {
	Every     int        `json:"every_seconds"`
	Until     time.Time  `json:"until"` // the end of the last step
	Updates   []*float64 `json:"updates_per_second"`
	Questions []*float64 `json:"questions_per_second"`
	Refusals  []*float64 `json:"refusals_per_second"`
	P99       []*float64 `json:"p99_seconds"`
	Lag       []*float64 `json:"lag"`
}

// A Point is one step of a History. Nil is what is not known.
type Point struct {
	Updates   *float64 `json:"updates_per_second"`
	Questions *float64 `json:"questions_per_second"`
	Refusals  *float64 `json:"refusals_per_second"`
	P99       *float64 `json:"p99_seconds"`
	Lag       *float64 `json:"lag"`
}

// Add adds a step at the end; nil is one of which nothing is known.
func (h *History) Add(p *Point) {
	if p == nil {
		p = &Point{}
	}
	h.Updates = append(h.Updates, p.Updates)
	h.Questions = append(h.Questions, p.Questions)
	h.Refusals = append(h.Refusals, p.Refusals)
	h.P99 = append(h.P99, p.P99)
	h.Lag = append(h.Lag, p.Lag)
}

// Len is how many steps it has.
func (h *History) Len() int { return len(h.Updates) }

// At is a step, from 0 on.
func (h *History) At(i int) Point {
	return Point{h.Updates[i], h.Questions[i], h.Refusals[i], h.P99[i], h.Lag[i]}
}

// Columns names the numbers in the rows that /events sends.
type Columns struct {
	Edge []string `json:"edge"`
	Link []string `json:"link"`
}

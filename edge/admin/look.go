package admin

import "time"

// Client is what an edge holds of one client, as `<prefix>.edge.<EDGE>.client` reports it. Other
// programs rely on its JSON.
type Client struct {
	Edge  string `json:"edge"`
	Epoch string `json:"epoch"` // of this run (H3)
	Known bool   `json:"known"` // whether it holds a line; if not, what follows is left out

	// Line is the AT line without its LF. It may have any bytes: one that is not UTF-8 is also in
	// LineBytes, unchanged.
	Line      string  `json:"line,omitempty"`
	LineBytes []byte  `json:"line_base64,omitempty"`
	Lat       float64 `json:"lat"` // degrees
	Lon       float64 `json:"lon"`

	Received  time.Time `json:"received,omitzero"`  // when its first edge received it, by that edge's clock
	Effective time.Time `json:"effective,omitzero"` // the time by which it is ordered (S2)

	Revision uint64 `json:"revision,omitempty"` // of its last change here (H3)
	// StoredAfter and StoredBefore are this edge's clock at two moments between which that change
	// was; StoredAfter is left out where it was before the edge noted any.
	StoredAfter  time.Time `json:"stored_after,omitzero"`
	StoredBefore time.Time `json:"stored_before,omitzero"`

	From      string `json:"from,omitempty"`      // client, neighbour or journal: from whom the line came first
	Neighbour string `json:"neighbour,omitempty"` // which, where From is neighbour

	Own       bool `json:"own"`        // the client is this edge's own, so its journal is to hold the line (D1)
	InJournal bool `json:"in_journal"` // the journal holds this very line

	// Links are what the edge knows of its neighbours: whether they hold the line.
	Links []ClientLink `json:"links"`
}

// ClientLink says how far a neighbour has acknowledged an edge's changes, with regard to one client.
type ClientLink struct {
	Neighbour string `json:"neighbour"`
	Up        bool   `json:"up"`  // H8
	Lag       uint64 `json:"lag"` // revisions not acknowledged
	// Acknowledged says that the neighbour's present run has acknowledged the line: it said that it
	// holds this line or a newer one.
	Acknowledged bool `json:"acknowledged"`
}

// Cells is who is in a box, as `<prefix>.edge.<EDGE>.cells` reports it. Other programs rely on
// its JSON.
type Cells struct {
	Edge     string  `json:"edge"`
	Revision uint64  `json:"revision"` // the edge's newest when it began to count (H3)
	Clients  int     `json:"clients"`  // in all cells that the box touches
	Size     float64 `json:"size"`     // of a cell, in degrees of latitude and of longitude
	// Cells has row, column and clients of each cell that has some. Rows are counted from the
	// South Pole, columns from -180 degrees: a cell's south-west corner is row*size-90,
	// column*size-180.
	Cells [][3]int `json:"cells"`
	// Singles are the clients themselves; null where they are more than was asked for.
	Singles []Single `json:"singles"`
}

// Single is one client in a box.
type Single struct {
	Client      string  `json:"client"`
	ClientBytes []byte  `json:"client_base64,omitempty"` // where Client is not UTF-8
	Lat         float64 `json:"lat"`                     // degrees
	Lon         float64 `json:"lon"`
	Edge        string  `json:"edge"` // that received it
	Time        string  `json:"time"` // the client's, as it wrote it
	Line        string  `json:"line"` // the AT line, without its LF
}

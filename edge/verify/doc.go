// Package verify says whether all edges of a herd hold the same, and if not, which clients differ
// and how.
//
// Edges that have seen the same lines hold the same bytes (S2), so their tables are compared by
// sums of hashes of their lines, per shard of the clients. Of the shards that differ the edges list
// their clients by hashes, and of the clients that differ their lines. While positions change, many
// differ at any moment and nothing is wrong. So a difference counts only once it is proven: an edge
// lacks what a neighbour held at an earlier look, though it had acknowledged that by then (H5); or
// it lacks what another edge has held for a long time, which is reported as late.
//
// Answer is the side of an edge, Run that of whoever compares. The package knows nothing of NATS or
// HTTP: it is given a way to ask.
package verify

import "herd/edge/position"

// The kinds of questions.
const (
	AskState   = "state"   // how the edge is
	AskSums    = "sums"    // the sum of each shard
	AskList    = "list"    // the records of some shards, by their hashes
	AskSlots   = "slots"   // the records in some slots
	AskClients = "clients" // the records of some clients
)

// Bounds on what may be asked at once.
const (
	MaxBits    = 16      // of shards, as a power of two
	MaxRecords = 1024    // slots or clients
	maxSlots   = 1 << 20 // slots that are looked at for one answer
)

// A Question is what an edge is asked, as `<prefix>.edge.<EDGE>.digest` takes it.
type Question struct {
	Ask string `json:"ask"`

	// For sums and list:
	Key    []byte `json:"key,omitempty"`    // of the hashes, position.DigestKey bytes
	Bits   int    `json:"bits,omitempty"`   // there are 1<<bits shards; at most MaxBits
	Oldest int64  `json:"oldest,omitempty"` // Unix nanoseconds: records with an older effective time (S2) are left out
	From   uint32 `json:"from,omitempty"`   // the slot to begin with: the Next of the answer before
	Shards []byte `json:"shards,omitempty"` // for list: a bit per shard that is wanted, the lowest bit of the first byte first

	Slots   []uint32 `json:"slots,omitempty"`   // for slots, at most MaxRecords
	Clients [][]byte `json:"clients,omitempty"` // for clients, at most MaxRecords
}

func (q *Question) digest() *position.Digest {
	return &position.Digest{Key: q.Key, Bits: q.Bits, Oldest: q.Oldest}
}

// Wants reports whether a shard is wanted.
func (q *Question) wants(shard int) bool {
	return shard/8 < len(q.Shards) && q.Shards[shard/8]>>(shard%8)&1 != 0
}

// State is how an edge is, beside what it holds.
type State struct {
	Edge    string `json:"edge"`
	Epoch   string `json:"epoch"`             // of this run (H3)
	Clients int    `json:"clients"`           // whose positions it holds
	Now     int64  `json:"now"`               // its retention clock (S4), Unix nanoseconds
	Retain  int64  `json:"retain,omitempty"`  // HERD_RETAIN in nanoseconds
	Links   []Link `json:"links"`             // one per neighbour
	Largest int    `json:"largest,omitempty"` // bytes that an answer of it may have
}

// A Link says what a neighbour has acknowledged.
type Link struct {
	Neighbour string `json:"neighbour"`
	Epoch     string `json:"epoch,omitempty"` // the neighbour's, from its acks (H4)
	Acked     uint64 `json:"acked"`           // through this revision (H5)
	Lag       uint64 `json:"lag"`             // revisions not acknowledged
	Up        bool   `json:"up"`              // H8
}

// A Reply is what an edge answers.
type Reply struct {
	State
	// Next is the slot to go on with; 0: the answer is complete.
	Next uint32 `json:"next,omitempty"`
	// Records is how many were met on the way, for sums.
	Records int `json:"records,omitempty"`
	// Sums are those of the lines' hashes per shard, modulo 2^64, 8 bytes each, least first.
	Sums []byte `json:"sums,omitempty"`
	// Entries are the records that are listed: the hash of the id and that of the line, 8 bytes each,
	// and the slot, 4 bytes.
	Entries []byte `json:"entries,omitempty"`
	// Held are the records asked for, in that order. They may be fewer, where the answer is full.
	Held []Held `json:"held,omitempty"`
}

// Held is a record. Without a line there is none.
type Held struct {
	Client   []byte `json:"client,omitempty"`
	Line     []byte `json:"line,omitempty"`     // the AT line, without its LF
	Revision uint64 `json:"revision,omitempty"` // of its last change (H3)
}

package position

// handScan bounds how many records a Hand passes in one read, and so how long it holds
// the lock.
const handScan = 2048

// handWindow is how many full reads are counted before it is decided whether more
// changes than can be read.
const handWindow = 4

// A Hand is the second way of a reader through the records: by slot, not by the order of
// changes (H3, nobody starves). A record that changes moves to the end of the order, so a
// reader that gets less than what changes would never come to the clients that move most.
// While that is so, half of what it gets is taken by its Hand, which goes round the slots
// and takes the records that changed beyond the cursor: each client once a round, however
// often it moves.
//
// The zero Hand is ready. It belongs to one reader and is used under the table's lock.
type Hand struct {
	on   bool
	slot uint32 // the next one to look at

	// What was taken in the round before need not be taken again.
	before uint64 // the table's head when the round before this began
	begun  uint64 // … and this one

	reads  int    // full ones of this window
	head   uint64 // the table's head when the window began
	served uint64 // changes dealt with in it: lines read, and those that needed no reading
}

// Reset forgets what was taken: the cursor went back.
func (h *Hand) Reset() { *h = Hand{slot: h.slot} }

// On reports whether the reader falls behind, so that half of what it gets is the hand's.
func (h *Hand) On() bool { return h.on }

// Filled notes a read whose cursor's part was full, the head it saw, and how many changes
// it dealt with. A reader falls behind where more changed than that, over a few in a row.
func (h *Hand) Filled(head, served uint64) {
	if h.reads == 0 { // it marks the moment at which the window begins
		h.reads, h.head, h.served = 1, head, 0
		return
	}
	h.reads++
	h.served += served
	if h.reads <= handWindow {
		return
	}
	behind := head-h.head > h.served
	h.reads, h.head, h.served = 1, head, 0
	if behind && !h.on {
		h.before, h.begun = 0, head
	}
	h.on = behind
}

// goRound shows take the records that changed beyond the cursor, from where the hand stands,
// until take returns false or the step or a round is over. The caller holds the lock.
func (t *Table) goRound(h *Hand, cursor uint64, take func(Record) bool) {
	for n := min(handScan, t.records.used); n > 0; n-- {
		if h.slot >= t.records.used {
			h.slot = 0
			h.before, h.begun = h.begun, t.head
		}
		r := t.records.at(h.slot)
		if r.revision > max(cursor, h.before) && !take(Record{t, r, h.slot}) {
			return
		}
		h.slot++
	}
}

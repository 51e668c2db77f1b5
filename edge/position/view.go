package position

import (
	"bytes"
	"hash/maphash"

	"herd/edge/wire"
)

// MaxLine is the most bytes that the line of a record takes, with its LF.
const MaxLine = wire.MaxAT

// A Ref names a line: the slot of its record, and the revision by which it is held there.
type Ref struct {
	Slot     uint32
	Revision uint64
}

// A View is a table under its lock, without what was forgotten and keeps its slot (L4). A reader that wants something else than the lines that Read
// returns decides with it which records it takes. A View and its Records may be used only until
// the function that Table.View calls returns.
type View struct{ t *Table }

// View calls f with the table under its lock, and then wakes the readers that wait if f made a
// change. Nobody else can merge or read meanwhile, so f must be short. It must not wait, and must
// not call methods of the Table.
func (t *Table) View(f func(View)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.head
	f(View{t})
	if t.head != before {
		t.wake()
	}
}

// Head returns the newest revision (H3).
func (v View) Head() uint64 { return v.t.head }

// Slots returns the number of slots: that of each record is below it.
func (v View) Slots() uint32 { return v.t.records.used }

// At returns the record in a slot, and whether there is one.
func (v View) At(slot uint32) (Record, bool) {
	if slot >= v.t.records.used {
		return Record{}, false
	}
	r := v.t.records.at(slot)
	return Record{v.t, r, slot}, r.revision != 0 && r.effective >= 0
}

// Find returns the record of a client, and whether there is one. It may be past HERD_RETAIN.
func (v View) Find(client []byte) (Record, bool) {
	op := Op{client: client, hash: maphash.Bytes(v.t.seed, client)}
	slot, known := v.t.find(&op)
	if !known || v.t.records.at(slot).effective < 0 {
		return Record{}, false
	}
	return Record{v.t, v.t.records.at(slot), slot}, true
}

// Scan shows take the records that changed after a revision, oldest change first, and returns
// where the cursor goes (H3). It stops before a record for which take returns false, and after
// some 2,000 entries of the order; end reports whether it came to the end. A record that has
// changed again is met only at its newest place.
func (v View) Scan(after uint64, take func(Record) bool) (through uint64, end bool) {
	return v.t.scan(after, func(r Record) bool { return r.r.effective < 0 || take(r) })
}

// Round shows take records that changed after the cursor, from where hand stands, until take
// returns false or hand has passed some 2,000 slots. It does nothing unless hand is on.
func (v View) Round(hand *Hand, cursor uint64, take func(Record) bool) {
	if hand.on {
		v.t.goRound(hand, cursor, func(r Record) bool { return r.r.effective < 0 || take(r) })
	}
}

// A Record is what the table holds of one client, as a View shows it.
//
// Own, Sequence and Kept are the journal's marks. What follows from them is the journal's business,
// but they stay in the record: the table clears Kept in the step in which it replaces a line, and all
// three in the step in which it forgets one. In two steps, a line that the journal lacks could count
// as kept (D3).
type Record struct {
	t    *Table
	r    *record
	slot uint32
}

// Ref names the line that is held now.
func (r Record) Ref() Ref { return Ref{r.slot, r.r.revision} }

// Revision returns the revision of the newest change of the record.
func (r Record) Revision() uint64 { return r.r.revision }

// Line returns the AT line with its LF. It is valid as long as the View is.
func (r Record) Line() []byte { return r.t.line(r.r) }

// Len returns the length of Line.
func (r Record) Len() int { return int(r.r.size) }

// Client returns the client's id. It is valid as long as the View is.
func (r Record) Client() []byte { return r.t.client(r.r) }

// Expired reports whether the line is past HERD_RETAIN at a time in Unix nanoseconds (S4).
func (r Record) Expired(now int64) bool { return r.t.expired(r.r.effective, now) }

// Own reports whether the client is one of this edge's own: the edge has accepted an IAMAT of the
// client, or its journal had (D1).
func (r Record) Own() bool { return r.r.own }

// Sequence returns the last sequence of the client's key in the journal that SetSequence or a
// PutKept noted (D5); 0 if there is none.
func (r Record) Sequence() uint64 { return r.r.sequence }

// SetSequence notes a sequence; 0 removes it.
func (r Record) SetSequence(sequence uint64) { r.t.setSequence(r.r, sequence) }

// Kept reports whether the journal holds this very line. A newer line clears it.
func (r Record) Kept() bool { return r.r.kept }

// SetKept notes whether the journal holds this very line.
func (r Record) SetKept(kept bool) { r.r.kept = kept }

// Touch makes the record the newest change, its line as it is, so that all readers of the order
// of changes meet it once more.
func (r Record) Touch() { r.t.touch(r.slot, r.r) }

// OwnClients returns how many clients are this edge's own, and for how many of them a sequence is
// noted.
func (t *Table) OwnClients() (own, sequenced int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.own, t.sequenced
}

func (t *Table) setSequence(r *record, sequence uint64) {
	if r.sequence != 0 {
		t.sequenced--
	}
	if r.sequence = sequence; sequence != 0 {
		t.sequenced++
	}
}

// setOwn notes that a client is one of this edge's own.
func (t *Table) setOwn(r *record) {
	if !r.own {
		r.own = true
		t.own++
	}
}

// ClientOf returns the id in an AT line that is known to be one.
func ClientOf(line []byte) []byte {
	at := clientAt(line)
	return line[at : int(at)+bytes.IndexByte(line[at:], ' ')]
}

// clientAt returns where the client's id begins in an AT line: behind "AT", the edge and the
// skew, which take at most 60 bytes with their spaces.
func clientAt(line []byte) uint8 {
	at := 3
	at += bytes.IndexByte(line[at:], ' ') + 1
	at += bytes.IndexByte(line[at:], ' ') + 1
	return uint8(at)
}
